-- Takes the lead of a restart of a workflow's workers.
-- KEYS: 1 restart
-- ARGV: 1 the lease as JSON, 2 leaseMs, 3 lease key before the session, 4 and after it
-- Answer: nothing when it was taken; else the lease of who has it
-- @include restart
local held = redis.call('GET', KEYS[1])
-- Whether who leads is dead. One that was left to others is nobody's yet, and is not over.
local function is_orphan()
  local lease = lease_of(held)
  if lease.rest ~= nil or type(lease.session) ~= 'string' or lease.session == '' then return false end
  return redis.call('EXISTS', ARGV[3] .. lease.session .. ARGV[4]) == 0
end
-- A lease without an end was not written by this script, and would be held for ever.
if held and redis.call('PTTL', KEYS[1]) ~= -1 and not is_orphan() then return held end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
