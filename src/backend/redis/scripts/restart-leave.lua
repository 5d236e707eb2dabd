-- Leaves the lead of a restart, with what is still to be done, to whoever takes it first, and tells sessions of it.
-- KEYS: 1 restart
-- ARGV: 1 restartId, 2 what is to be done, 3 for how long in milliseconds, 4 workflowId, 5... control channels of the
--       sessions
-- Answer: 1, or 0 when the lead was lost
-- @include publish
-- @include restart
if not leads(KEYS[1], ARGV[1]) then return 0 end
local lease = lease_of(redis.call('GET', KEYS[1]))
lease.session, lease.rest = '', ARGV[2]
redis.call('SET', KEYS[1], cjson.encode(lease), 'PX', ARGV[3])
-- News that may not be told are found by who joins.
for i = 5, #ARGV do publish(ARGV[i], { type = 'restart-left', workflowId = ARGV[4] }, 'control') end
return 1
