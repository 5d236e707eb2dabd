-- An outcome of a call with an idempotency key: told to everybody who shares the call, and its result kept.
-- KEYS: 1 calls, 2 once
-- ARGV: 1 group, 2 kind, 3 entry id, 4 callId, 5 process to answer or '', 6 the key's name, 7 reply or '',
--       8 how long a result is kept, in milliseconds, 9 reply stream before the process, 10 and after it,
--       11 length from which on a reply stream takes no progress
-- Answer: 1, 0 when the call was not owned, or why it has to be said again
-- @include tell
local calls, once, kind, id, reply = KEYS[1], KEYS[2], ARGV[2], ARGV[3], ARGV[7]
local function finish()
  if kind == 'settle' or kind == 'discard' then
    redis.call('XACK', calls, ARGV[1], id)
    redis.call('XDEL', calls, id)
  end
  return 1
end
if kind ~= 'progress' then
  -- There and not pending: its group was destroyed, and it is still the call of who ran it.
  if #redis.call('XRANGE', calls, id, id) == 0 then return 0 end
end
if reply == '' then return finish() end
local entry = { callId = ARGV[4], process = ARGV[5], get = function() return ARGV[6] end }
local problem = tell({ ARGV[9], ARGV[10] }, calls, entry, reply, kind == 'progress' and tonumber(ARGV[11]) or nil)
if kind == 'progress' then return 1 end
if problem then return problem end
redis.call('DEL', once)
-- A failure is told to who waits and then forgotten: the next call with this key runs.
if string.sub(reply, 1, 8) == '{"k":"r"' then
  redis.call('HSET', once, 'reply', reply)
  redis.call('PEXPIRE', once, ARGV[8])
end
return finish()
