-- Ends a session's lease, if the evidence of its death still holds.
-- KEYS: 1 lease, 2 hosted, 3 processes
-- ARGV: 1 'presence' or 'lease', 2 control channel of the session, 3 sessionId
-- Answer: nothing when it lives; else its hosted workers, each as JSON [function id, workerId]
if ARGV[1] == 'presence' then
  if redis.call('HGET', KEYS[3], ARGV[3]) ~= 'present' then return false end
  if tonumber(redis.call('PUBSUB', 'NUMSUB', ARGV[2])[2]) > 0 then return false end
else
  if redis.call('EXISTS', KEYS[1]) == 1 then return false end
end
redis.call('DEL', KEYS[1])
return redis.call('SMEMBERS', KEYS[2])
