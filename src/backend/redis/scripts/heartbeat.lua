-- Keeps a session's lease and the process's reply stream. A lease that ran out while Redis itself was away, or
-- stood still, is taken again: only a session that was condemned, or that Redis forgot, is lost.
-- KEYS: 1 lease, 2 reply stream, 3 processes, 4 grave (exists when the session was buried lately)
-- ARGV: 1 leaseMs, 2 replyTtlMs, 3 sessionId
-- Answer: { 1 (the session lives), 0 (it was condemned) or -1 (Redis has forgotten it), Redis's clock in ms }
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('PEXPIRE', KEYS[2], ARGV[2])
local listed = redis.call('HGET', KEYS[3], ARGV[3])
if listed == 'condemned' then return { 0, now } end
if not listed then return { redis.call('EXISTS', KEYS[4]) - 1, now } end
if redis.call('PEXPIRE', KEYS[1], ARGV[1]) == 0 then redis.call('SET', KEYS[1], now, 'PX', ARGV[1]) end
return { 1, now }
