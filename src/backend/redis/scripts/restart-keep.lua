-- Keeps the lead of a restart, or gives it back.
-- KEYS: 1 restart
-- ARGV: 1 restartId, 2 leaseMs, or 0 to give it back
-- Answer: 1, or 0 when the lead was lost
-- @include restart
if not leads(KEYS[1], ARGV[1]) then return 0 end
if tonumber(ARGV[2]) > 0 then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return redis.call('DEL', KEYS[1])
