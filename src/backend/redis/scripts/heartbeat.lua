-- Keeps a session's lease and the process's reply stream.
-- KEYS: 1 lease, 2 reply stream
-- ARGV: 1 leaseMs, 2 replyTtlMs
-- Answer: { 1 or 0 (the lease was still there), Redis's clock in milliseconds }
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return { redis.call('PEXPIRE', KEYS[1], ARGV[1]), string.format('%.0f', now) }
