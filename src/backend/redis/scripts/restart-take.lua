-- Takes the lead of a restart that was left.
-- KEYS: 1 restart
-- ARGV: 1 who takes it, for texts, 2 its session, 3 leaseMs
-- Answer: { restartId, what is to be done }, or nothing when there is none
-- @include restart
local lease = lease_of(redis.call('GET', KEYS[1]))
local rest, id = lease.rest, lease.restartId
if type(rest) ~= 'string' or type(id) ~= 'string' then return false end
lease = { restartId = id, holder = ARGV[1], session = ARGV[2] }
redis.call('SET', KEYS[1], cjson.encode(lease), 'PX', ARGV[3])
return { id, rest }
