-- Ends a session's lease, if the evidence of its death still holds.
-- KEYS: 1 lease, 2 hosted, 3 processes
-- ARGV: 1 'presence' or 'lease', 2 control channel of the session, 3 sessionId
-- Answer: nothing when it lives; else its hosted workers, each as JSON [function id, workerId]
local listed = redis.call('HGET', KEYS[3], ARGV[3])
if listed == 'condemned' then
  -- By a supervisor that did not get to the end of it.
elseif ARGV[1] == 'presence' then
  if listed ~= 'present' then return false end
  if tonumber(redis.call('PUBSUB', 'NUMSUB', ARGV[2])[2]) > 0 then return false end
else
  if redis.call('EXISTS', KEYS[1]) == 1 then return false end
end
redis.call('DEL', KEYS[1])
-- From here on its heartbeat tells the session that it is lost, whatever comes of its lease.
if listed then redis.call('HSET', KEYS[3], ARGV[3], 'condemned') end
return redis.call('SMEMBERS', KEYS[2])
