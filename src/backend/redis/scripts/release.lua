-- Lets go of calls that a consumer holds. Each goes back to its stream under a new entry id (so the old
-- owner's settle finds nothing), is answered, or is given up; the consumer is removed only when it holds
-- nothing: DELCONSUMER would destroy what is pending.
-- KEYS: 1 calls, 2 dead letters
-- ARGV: 1 group, 2 consumer, 3 'lost' or 'handed-back', 4 maxDeliveries, 5 reply stream before the process,
--       6 and after it, 7 length that the dead letters may have,
--       8 how many calls at the most, 9 function's name for texts,
--       10 inbox before the session, 11 and after it, then per call: entry id, 1 or 0 (its handler had started); for
--       'lost' those that were given to the consumer, beside which all that are pending for it are let go
-- Answer: { requeued, answered, dead-lettered, 1 when more are left }
-- @include entry
-- @include holding
-- @include ring
-- @include tell
local calls, dead, group, consumer, mode = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
if #ARGV < 12 and redis.call('EXISTS', calls) == 0 then return { 0, 0, 0, 0 } end
local limit = tonumber(ARGV[8])
local requeued, answered, buried = 0, 0, 0
local reply_parts, inbox = { ARGV[5], ARGV[6] }, { ARGV[10], ARGV[11] }
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))

-- The final answer to everybody who waits for it; a key that they share is free again.
local function fail(entry, code, message, details)
  tell(reply_parts, calls, entry, cjson.encode({
    k = 'e', o = 1, e = { code = code, message = message, details = details, retryable = false },
  }))
  if entry.get('k') then redis.call('DEL', once_key(calls, entry.get('k'))) end
end

local function bury(entry, losses)
  buried = buried + 1
  entry.set('reason', 'MAX_DELIVERIES')
  redis.call('XADD', dead, 'MAXLEN', '~', ARGV[7], '*', unpack(entry.fields))
  fail(entry, 'MAX_DELIVERIES',
    ARGV[9] .. ' lost its worker ' .. losses .. ' times and was moved to the dead letters. Look for what ' ..
    'its handler does to its process; maxDeliveries sets the bound.',
    { attempts = losses })
end

local function place(id, fields, started)
  local entry = entry_of(fields)
  local attempt = tonumber(entry.get('a') or '1') or 1
  if entry.at_most_once and started then
    answered = answered + 1
    fail(entry, 'WORKER_LOST',
      'The worker that ran ' .. ARGV[9] .. ' was lost, and delivery at-most-once forbids running it again.',
      { attempt = attempt, reason = mode })
    return
  end
  entry.keep_origin(id)
  if mode == 'lost' then
    local losses = (tonumber(entry.get('l') or '0') or 0) + 1
    entry.note({ at = tonumber(now), attempt = attempt, code = 'WORKER_LOST', worker = consumer,
      message = 'its worker was lost' })
    if losses >= tonumber(ARGV[4]) then return bury(entry, losses) end
    entry.set('l', string.format('%d', losses))
    attempt = attempt + 1
  end
  entry.set('a', string.format('%d', attempt))
  local moved = redis.call('XADD', calls, '*', unpack(entry.fields))
  requeued = requeued + 1
  if entry.get('k') then redis.call('HSET', once_key(calls, entry.get('k')), 'entry', moved) end
  tell(reply_parts, calls, entry, cjson.encode({ k = 'm', d = moved }))
end

-- The new place of a call, or its answer, first: when Redis refuses that, the call stays where it is.
local function let_go(id, started)
  if not inbox_of(inbox, id) then
    local pending = redis.pcall('XPENDING', calls, group, id, id, 1)
    if pending.err or #pending == 0 or pending[1][2] ~= consumer then return end
  end
  local fields = held_fields(inbox, calls, id)
  if fields then place(id, fields, started) end
  drop_held(inbox, calls, group, id)
end

for at = 12, #ARGV, 2 do let_go(ARGV[at], ARGV[at + 1] == '1') end
local is_full = false
if mode == 'lost' then
  local ok, pending = pcall(redis.call, 'XPENDING', calls, group, '-', '+', limit, consumer)
  for i = 1, ok and #pending or 0 do let_go(pending[i][1], true) end
  is_full = ok and #pending == limit
end
if requeued > 0 then ring(calls, now) end
if is_full then return { requeued, answered, buried, 1 } end
local ok, left = pcall(redis.call, 'XPENDING', calls, group, '-', '+', 1, consumer)
if ok and #left == 0 then redis.call('XGROUP', 'DELCONSUMER', calls, group, consumer) end
return { requeued, answered, buried, 0 }
