-- Gives the supervisor's lease back.
-- KEYS: 1 supervisor
-- ARGV: 1 sessionId
-- Answer: 1 when this session held it
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
