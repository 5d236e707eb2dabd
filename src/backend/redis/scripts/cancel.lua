-- Cancels a call: out of the stream, or from aside, when nobody has it; else its worker is told. A call that
-- others share by an idempotency key goes on for them.
-- KEYS: 1 calls, 2 delayed, 3 aside, 4 once (only for a call with an idempotency key)
-- ARGV: 1 group, 2 entry id, 3 callId, 4 control channel's head, 5 function id, 6 inbox before the session, 7 and after it
-- Answer: 'removed', 'running', 'shared' or 'unknown'; after 'running' why its worker could not be told, or ''
-- @include holding
-- @include publish
local id, callId = ARGV[2], ARGV[3]
if KEYS[4] then
  local known = redis.call('HMGET', KEYS[4], 'entry', 'call')
  redis.call('HDEL', KEYS[4], 'w:' .. callId)
  if not known[1] then return 'unknown' end
  local fields = redis.call('HKEYS', KEYS[4])
  for i = 1, #fields do
    if string.sub(fields[i], 1, 2) == 'w:' then return 'shared' end
  end
  redis.call('DEL', KEYS[4])
  id, callId = known[1], known[2]
end
-- Its worker aborts it, or takes it out.
local function tell(session)
  local data = { type = 'cancel', callId = callId, entryId = id, functionId = ARGV[5] }
  publish(ARGV[4] .. session, data, 'control')
  return { 'running', untold }
end
local key, field, session = inbox_of({ ARGV[6], ARGV[7] }, id)
if key then return redis.call('HEXISTS', key, field) == 1 and tell(session) or 'unknown' end
local ok, pending = pcall(redis.call, 'XPENDING', KEYS[1], ARGV[1], id, id, 1)
if ok and #pending == 1 then return tell(pending[1][2]) end
if redis.call('XDEL', KEYS[1], id) == 1 then return 'removed' end
if redis.call('HDEL', KEYS[3], id) == 1 then
  redis.call('ZREM', KEYS[2], id)
  return 'removed'
end
return 'unknown'
