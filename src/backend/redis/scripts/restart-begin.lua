-- Takes the lead of a restart of a workflow's workers.
-- KEYS: 1 restart
-- ARGV: 1 the lease as JSON, 2 leaseMs
-- Answer: nothing when it was taken; else the lease of who has it
local held = redis.call('GET', KEYS[1])
-- A lease without an end was not written by this script, and would be held for ever.
if held and redis.call('PTTL', KEYS[1]) ~= -1 then return held end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
