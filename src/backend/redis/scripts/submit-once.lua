-- Adds a call with an idempotency key, joins the one that is out under that key, or answers from its result.
-- KEYS: 1 calls, 2 once
-- ARGV: 1 calls that a function may have, waiting and running, 2 the call, 3 1 when it is written again, 4 callId,
--       5 process to answer, 6 time to live in milliseconds, 7 the key's name, 8 reply stream before the process,
--       9 and after it
-- Answer: the entry id (of the call that runs), '=' when it was answered, '!full <backlog>'
-- @include ring
-- @include tell
local calls, once, callId, process = KEYS[1], KEYS[2], ARGV[4], ARGV[5]
local known = redis.call('HMGET', once, 'reply', 'entry')
if known[1] then
  tell_one({ ARGV[8], ARGV[9] }, process, callId, known[1])
  return '='
end
-- A minute more than the longest of those who wait: who is left then has given up.
local keep = string.format('%.0f', math.max(redis.call('PTTL', once), tonumber(ARGV[6]) + 60000))
if known[2] then
  redis.call('HSET', once, 'w:' .. callId, process)
  redis.call('PEXPIRE', once, keep)
  return known[2]
end
local length = redis.call('XLEN', calls)
if length >= tonumber(ARGV[1]) and ARGV[3] ~= '1' then return '!full ' .. length end
local id = redis.call('XADD', calls, '*', 'c', ARGV[2], 'k', ARGV[7])
redis.call('HSET', once, 'entry', id, 'call', callId, 'w:' .. callId, process)
redis.call('PEXPIRE', once, keep)
ring(calls, string.match(id, '^%d+'))
return id
