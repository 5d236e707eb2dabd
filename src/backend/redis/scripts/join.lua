-- Takes a session's lease.
-- KEYS: 1 lease, 2 processes
-- ARGV: 1 sessionId, 2 leaseMs, 3 'present' or 'absent' (its presence)
-- Answer: the epoch, Redis's clock in milliseconds
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], string.format('%.0f', now), 'PX', ARGV[2])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
return string.format('%.0f', now)
