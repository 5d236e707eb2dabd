-- Takes or keeps the supervisor's lease. A holder whose presence is missing is dead: it is not waited for.
-- KEYS: 1 supervisor, 2 processes
-- ARGV: 1 sessionId, 2 leaseMs, 3 control channel's head
-- Answer: 1 when this session holds it
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  local dead = redis.call('HGET', KEYS[2], holder) == 'present'
    and tonumber(redis.call('PUBSUB', 'NUMSUB', ARGV[3] .. holder)[2]) == 0
  if not dead then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
