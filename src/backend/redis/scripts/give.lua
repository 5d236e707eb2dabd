-- Gives calls of one tick to processes that wait for the bell of a pool and offered to take some: they are told at once,
-- while a bell would make them ask first. What nobody takes is added to its function's stream, and rung for.
-- An offer: a session in the pool's sorted set; the whole part of its score is when the offer ends on Redis's clock,
-- its fraction how many calls it is for, in 1024ths. What was given ends it.
-- A given call lies in the session's inbox, a hash, until it is settled: '<milliseconds>-<number>' to function id, tab,
-- call. '#' counts the numbers; without it nobody opened the inbox (open-inbox.lua), or the session is gone.
-- ARGV: 1 calls that a function may have, waiting and running, 2 inbox before the session, 3 and after it, 4 what a
--       session is told before it, 5 and after it, 6 a function's keys before its id, 7 and after it, 8 number of pools
--       that host all of these functions as far as is known, 9 group, then these pools, then per call: function id, tab,
--       call. A call whose first word has a 'w' is written again, and was let in before.
-- Answer: '', 'refused' when this user may not give, or what was learned of pools: lists of a function id, '*' for all of
--         these, and its pools; then, in the order of the calls, an id and for how many it is: of the first of those that
--         were given together, the others' numbers follow; of a call that was added; or '!full <backlog>', or '!' and
--         what Redis said
-- @include ring
local max, refused, learned, answer, found = tonumber(ARGV[1]), false, {}, { '' }, {}
local from = 10 + tonumber(ARGV[8])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local now_text = string.format('%.0f', now)

local function key_of(id, name) return ARGV[6] .. id .. ARGV[7] .. name end
local function id_of(line) return string.sub(line, 1, string.find(line, '\t', 1, true) - 1) end

-- Whether a command was carried out. What this user may not (Redis before 7.2 says it in words) is not tried again; what
-- else went wrong may go well next time: memory was full, somebody broke a key.
local function done(reply)
  local problem = type(reply) == 'table' and reply.err
  if not problem then return true end
  if string.find(problem, 'NOPERM', 1, true) or string.find(problem, 'The user executing', 1, true) then refused = true end
  return false
end

-- Takes the first offer of a pool that holds; whose it is, and for how many calls.
local function take_offer(offers)
  while true do
    local first = redis.pcall('ZRANGE', offers, 0, 0, 'WITHSCORES')
    local score = done(first) and tonumber(first[2])
    -- Who may not take away what has ended would look at it for ever.
    if not score or not done(redis.pcall('ZREM', offers, first[1])) then return end
    local places = math.floor(score % 1 * 1024 + 0.5)
    if score >= now and places > 0 then return first[1], places end
  end
end

-- Rings for a function that has calls of which nobody was told: written past the scripts, or by a caller that died before
-- it looked (lone-calls.ts). Of those that were given together one is looked at, another each time.
local function look_at(line)
  local calls = key_of(id_of(line), 'calls')
  local length = redis.pcall('XLEN', calls)
  if type(length) ~= 'number' or length == 0 then return end
  local pending = redis.pcall('XPENDING', calls, ARGV[9])
  if not pending.err and length > pending[1] then found[#found + 1] = calls end
end

-- Puts the next calls into a session's inbox and tells it of them.
local function give(session, count)
  local inbox, told = ARGV[2] .. session .. ARGV[3], ARGV[4] .. session .. ARGV[5]
  local last = redis.pcall('HINCRBY', inbox, '#', count)
  if not done(last) then return end
  if last == count then
    done(redis.pcall('HDEL', inbox, '#'))
    return
  end
  local head, before, fields = now_text .. '-', last - count, {}
  for n = 1, count do
    fields[2 * n - 1] = head .. (before + n)
    fields[2 * n] = ARGV[from + n - 1]
  end
  if not done(redis.pcall('HSET', inbox, unpack(fields))) then return end
  local text = '\t' .. fields[1] .. '\n' .. table.concat(ARGV, '\n', from, from + count - 1)
  if not done(redis.pcall('RPUSH', told, text)) then
    for n = 1, count do redis.call('HDEL', inbox, fields[2 * n - 1]) end
    return
  end
  answer[#answer + 1] = fields[1] .. '@' .. session
  answer[#answer + 1] = count
  look_at(ARGV[from + last % count])
  from = from + count
end

-- Pools that host all of these functions.
local function shared_pools()
  if from > 10 then return { unpack(ARGV, 10, from - 1) } end
  local bells = {}
  for at = from, #ARGV do bells[#bells + 1] = key_of(id_of(ARGV[at]), 'bells') end
  local pools = redis.pcall('SINTER', unpack(bells))
  if not done(pools) then return {} end
  if #pools > 0 then learned[1] = { '*', unpack(pools) } end
  return pools
end

for _, pool in ipairs(shared_pools()) do
  -- What waits comes first: who offers is about to take it.
  local waits = redis.pcall('EXISTS', pool .. ':due')
  while done(waits) and waits == 0 and not refused and from <= #ARGV do
    local session, places = take_offer(pool .. ':offers')
    if not session then break end
    give(session, math.min(places, #ARGV - from + 1))
  end
end

local functions, order = {}, {}
local function function_of(id)
  local known = functions[id]
  if known then return known end
  local calls = key_of(id, 'calls')
  local length, pools = redis.pcall('XLEN', calls), pools_of(calls)
  known = { calls = calls, length = type(length) == 'number' and length or 0, pools = pools }
  functions[id] = known
  order[#order + 1] = known
  learned[#learned + 1] = { id, unpack(pools) }
  return known
end

for at = from, #ARGV do
  local id = id_of(ARGV[at])
  local one, call = function_of(id), string.sub(ARGV[at], #id + 2)
  local told
  if one.length >= max and not string.find(call, '^%S*w') then
    told = '!full ' .. one.length
  else
    told = redis.pcall('XADD', one.calls, '*', 'c', call)
    if type(told) == 'table' then
      told = '!' .. tostring(told.err)
    else
      one.length, one.added = one.length + 1, true
    end
  end
  answer[#answer + 1] = told
  answer[#answer + 1] = 1
end
-- Who waits is told of what it was given first, and hears the bell for the rest afterwards.
for i = 1, #found do ring(found[i], now_text, true) end
for i = 1, #order do
  if order[i].added then ring(order[i].calls, now_text, false, order[i].pools) end
end
if refused then answer[1] = 'refused' elseif #learned > 0 then answer[1] = learned end
return answer
