-- Opens a session's inbox, if the session lives: from then on calls can be given to it. Who may not look into it and take
-- calls out of it is refused here: else each answer would be written again and again, and each hand-back a call more.
-- KEYS: 1 processes, 2 inbox
-- ARGV: 1 sessionId
-- Answer: 1, or 0 when the session is lost
local listed = redis.call('HGET', KEYS[1], ARGV[1])
if not listed or listed == 'condemned' then return 0 end
redis.call('HEXISTS', KEYS[2], '#')
redis.call('HGET', KEYS[2], '#')
redis.call('HDEL', KEYS[2], '')
redis.call('HSETNX', KEYS[2], '#', 1)
return 1
