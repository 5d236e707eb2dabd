-- Passes a call on that is bound to another generation of its workflow than that of the worker which got it, while
-- somebody of that generation lives; else it is answered.
-- A process of its generation that offers to take calls is given it. From the stream alone it would never come to one
-- that a bell has to wake: who waits at the stream itself is always served before.
-- Else it goes back into the stream at once until it may have met every worker, for Redis serves who has waited longest;
-- afterwards those that may run it have no place, and it waits aside.
-- KEYS: 1 calls, 2 delayed, 3 aside, 4 delayed functions, 5 workers
-- ARGV: 1 group, 2 entry id, 3 generation, 4 first delay in milliseconds, 5 function id, 6 how many calls may be put aside,
--       7 function's name for texts, 8 lease key before the session, 9 and after it, 10 reply stream before the
--       process, 11 and after it, 12 longest delay, 13 how often it is passed on at once at the least,
--       14 what a session is told before it, 15 and after it, 16 inbox before the session, 17 and after it
-- Answer: 1, or 0 when the call was not owned
-- @include entry
-- @include holding
-- @include ring
-- @include tell
local calls, id, generation = KEYS[1], ARGV[2], tonumber(ARGV[3])
local reply_parts = { ARGV[10], ARGV[11] }
local inbox = { ARGV[16], ARGV[17] }
local fields = held_fields(inbox, calls, id)
if not fields then return 0 end
local entry = entry_of(fields)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local workers = redis.call('HVALS', KEYS[5])

-- Where a worker's process offers to take calls (give.lua), if it does.
local function offers_of(worker)
  if type(worker.pool) ~= 'string' or type(worker.processId) ~= 'string' then return end
  local offers = worker.pool .. ':offers'
  local score = redis.pcall('ZSCORE', offers, worker.processId)
  score = type(score) == 'string' and tonumber(score)
  return score and score >= now and score % 1 > 0 and offers or nil
end

-- Whether a worker of that generation lives and is not about to leave; and one of them that offers to take calls, if any.
local function find_served()
  local is_served = false
  for _, text in ipairs(workers) do
    local ok, worker = pcall(cjson.decode, text)
    if ok and type(worker) == 'table' and worker.generation == generation and worker.status ~= 'draining'
      and redis.call('EXISTS', ARGV[8] .. tostring(worker.processId) .. ARGV[9]) == 1 then
      is_served = true
      local offers = offers_of(worker)
      if offers then return true, { offers = offers, session = worker.processId } end
    end
  end
  return is_served
end

local function answer(code, message, retryable)
  tell(reply_parts, calls, entry, cjson.encode({
    k = 'e', o = 1, e = {
      code = code, message = message, details = { generation = generation }, retryable = retryable,
    },
  }))
  if entry.get('k') then redis.call('DEL', once_key(calls, entry.get('k'))) end
end

-- How long it waits aside when it was passed on so often before.
local function delay_after(passes)
  local beyond = passes - math.max(tonumber(ARGV[13]), #workers)
  if beyond < 0 then return 0 end
  return math.min(tonumber(ARGV[12]), ARGV[4] * 2 ^ math.min(beyond, 20))
end

local function put_aside(delay)
  local due = string.format('%.0f', now + delay)
  redis.call('HSET', KEYS[3], id, cmsgpack.pack(entry.fields))
  redis.call('ZADD', KEYS[2], due, id)
  redis.call('ZADD', KEYS[4], 'LT', due, ARGV[5])
end

-- Delivers the function's first call, which is nearly always the one that was put back, in the taker's name and tells it
-- which that is: it has the call's other fields to read. Whether it is the one.
local function give_to(taker, moved)
  -- First, and pcall: a user that may not take an offer away has delivered nothing then.
  if redis.pcall('ZREM', taker.offers, taker.session) ~= 1 then return false end
  local found = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], taker.session, 'COUNT', 1, 'STREAMS', calls, '>')
  if not found or found.err then return false end
  local delivered = found[1][2][1][1]
  redis.call('RPUSH', ARGV[14] .. taker.session .. ARGV[15], ARGV[5] .. '\t' .. delivered)
  return delivered == moved
end

local function put_back(taker)
  local moved = redis.call('XADD', calls, '*', unpack(entry.fields))
  if entry.get('k') then redis.call('HSET', once_key(calls, entry.get('k')), 'entry', moved) end
  tell(reply_parts, calls, entry, cjson.encode({ k = 'm', d = moved }))
  if not taker or not give_to(taker, moved) then ring(calls, string.format('%.0f', now)) end
end

local function pass_on(taker)
  local passes = tonumber(entry.get('p') or '0') or 0
  local delay = taker and 0 or delay_after(passes)
  -- Back into the stream it would be passed on all the time.
  if delay > 0 and redis.call('HLEN', KEYS[3]) >= tonumber(ARGV[6]) then
    return answer('BACKLOG_FULL', ARGV[7] .. ' has ' .. ARGV[6] .. ' calls put aside: no more are kept.', true)
  end
  entry.keep_origin(id)
  entry.set('p', string.format('%d', passes + 1))
  if delay > 0 then put_aside(delay) else put_back(taker) end
end

local is_served, taker = find_served()
if is_served then
  pass_on(taker)
else
  answer('GENERATION_GONE', ARGV[7] .. ' has no worker of generation ' .. ARGV[3] .. ' left.', false)
end
drop_held(inbox, calls, ARGV[1], id)
return 1
