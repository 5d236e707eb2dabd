-- Adds a call with an idempotency key, joins the one that is out under that key, or answers from its result.
-- KEYS: 1 calls, 2 once
-- ARGV: 1 version of the entry, 2 process to answer, 3 calls that a function may have, 4 callId,
--       5 time to live in milliseconds, 6 payload, 7 flags, 8 the key's name, 9 reply stream before the
--       process, 10 and after it, 11 when it was sent, on Redis's clock, or ''
-- Answer: the entry id (of the call that runs), '=' when it was answered, '!full <backlog>', '!late'
-- @include late
-- @include ring
-- @include tell
local calls, once, callId = KEYS[1], KEYS[2], ARGV[4]
local known = redis.call('HMGET', once, 'reply', 'entry')
if known[1] then
  tell_one({ ARGV[9], ARGV[10] }, ARGV[2], callId, known[1])
  return '='
end
-- A minute more than the longest of those who wait: who is left then has given up.
local keep = math.max(redis.call('PTTL', once), tonumber(ARGV[5]) + 60000)
if known[2] then
  redis.call('HSET', once, 'w:' .. callId, ARGV[2])
  redis.call('PEXPIRE', once, string.format('%.0f', keep))
  return known[2]
end
local ttl = tonumber(ARGV[5]) - lateness(ARGV[11])
if ttl <= 0 then return '!late' end
local length = redis.call('XLEN', calls)
if length >= tonumber(ARGV[3]) and not string.find(ARGV[7], 'w', 1, true) then return '!full ' .. length end
local fields = { 'v', ARGV[1], 'i', callId, 'r', ARGV[2], 't', string.format('%.0f', ttl), 'p', ARGV[6], 'k', ARGV[8] }
for flag in string.gmatch(ARGV[7], '%a') do
  fields[#fields + 1] = flag
  fields[#fields + 1] = '1'
end
local id = redis.call('XADD', calls, '*', unpack(fields))
redis.call('HSET', once, 'entry', id, 'call', callId, 'w:' .. callId, ARGV[2])
redis.call('PEXPIRE', once, string.format('%.0f', keep))
ring(calls, string.match(id, '^%d+'))
return id
