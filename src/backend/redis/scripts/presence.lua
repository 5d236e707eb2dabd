-- Notes whether a session's presence is in place; a session that is not listed any more, or is
-- condemned, stays so.
-- KEYS: 1 processes
-- ARGV: 1 sessionId, 2 'present' or 'absent'
-- Answer: 1 when the session is listed
local listed = redis.call('HGET', KEYS[1], ARGV[1])
if not listed or listed == 'condemned' then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
