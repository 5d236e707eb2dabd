-- Takes or keeps the supervisor's lease.
-- KEYS: 1 supervisor
-- ARGV: 1 sessionId, 2 leaseMs
-- Answer: 1 when this session holds it
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
end
if holder then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
