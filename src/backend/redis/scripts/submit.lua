-- Adds calls to their functions' streams, as long as the functions' backlogs allow it.
-- KEYS: streams of calls
-- ARGV: 1 calls that a function may have, waiting and running, 2 group, 3 1 to give calls to who offers to take them,
--       4 key of what is given before the session, 5 and after it, then per stream: the calls, a line each. A call
--       whose first word has a 'w' is written again, and was let in before.
-- Answer: per stream the entry id of its first call when the others' follow it without a gap, else a list: per call its
--         entry id, '!full <backlog>', or '!' and what Redis said; then '-' when this user may not give

-- A call by itself, for which somebody waits: without the preparations for many, which are a fifth of such a script's time.
-- What it does not find as it should be is left to them.
local written, refused
if #KEYS == 1 and ARGV[3] == '1' and not string.find(ARGV[6], '\n', 1, true) and not string.find(ARGV[6], '^%S*w') then
  local calls, call = KEYS[1], ARGV[6]
  local pools = redis.pcall('SMEMBERS', string.sub(calls, 1, -6) .. 'bells')
  local offers = #pools == 1 and pools[1] .. ':offers'
  local offer = offers and redis.pcall('ZRANGE', offers, 0, 0, 'WITHSCORES')
  local ends = offer and tonumber(offer[2])
  local length = ends and redis.pcall('XLEN', calls)
  if type(length) == 'number' and length < tonumber(ARGV[1]) then
    written = redis.pcall('XADD', calls, '*', 'c', call)
    if type(written) == 'string' and ends >= tonumber((string.match(written, '^%d+'))) then
      local session = offer[1]
      local found = redis.pcall('XREADGROUP', 'GROUP', ARGV[2], session, 'COUNT', 1, 'STREAMS', calls, '>')
      if found and found.err then
        refused = not string.find(found.err, 'NOGROUP', 1, true)
      elseif found then
        local id, delivered = string.match(calls, '.*{(.*)}:calls$'), found[1][2][1][1]
        redis.call('ZREM', offers, session)
        redis.call('RPUSH', ARGV[4] .. session .. ARGV[5],
          id .. '\t' .. delivered .. (delivered == written and '\t' .. call or ''))
        if delivered == written then return { written } end
      end
    end
  end
end
-- @include ring
-- @include give
local max, answer, rings = tonumber(ARGV[1]), {}, {}
may_give = ARGV[3] == '1' and not refused

-- One function's calls. What is not given has to be rung for.
local function add(k)
  local calls, text = KEYS[k], ARGV[k + 5]
  local length = redis.pcall('XLEN', calls)
  if type(length) == 'table' then length = 0 end
  local ids, last, gaps, from = {}, nil, false, 1
  local pools, added, texts = pools_of(calls), {}, {}
  local gives = may_give and #pools > 0
  repeat
    local line_end = string.find(text, '\n', from, true)
    local call = (line_end or from > 1) and string.sub(text, from, (line_end or 0) - 1) or text
    from = line_end and line_end + 1
    local id
    if length >= max and not written and not string.find(call, '^%S*w') then
      id = '!full ' .. length
      gaps = true
    else
      id = written or redis.pcall('XADD', calls, '*', 'c', call)
      if type(id) == 'table' then
        id = '!' .. tostring(id.err)
        gaps = true
      else
        last = id
        length = length + 1
        if gives then
          added[#added + 1] = id
          texts[#texts + 1] = call
        end
      end
    end
    ids[#ids + 1] = id
  until not from
  if last and #pools > 0 and not (gives and give(ARGV[2], calls, added, texts, pools)) then
    rings[#rings + 1] = { calls, string.match(last, '^%d+'), pools }
  end
  if #ids > 1 and not gaps then
    local ms, first = string.match(ids[1], '^(%d+)-(%d+)$')
    gaps = last ~= ms .. '-' .. string.format('%d', first + #ids - 1)
  end
  answer[k] = gaps and ids or ids[1]
end

-- A function's one call, if it has one and there is room for it; whether it was added.
local function add_one(k)
  local text = ARGV[k + 5]
  if string.find(text, '\n', 1, true) then return false end
  local length = redis.pcall('XLEN', KEYS[k])
  if type(length) ~= 'number' or length >= max then return false end
  local id = redis.pcall('XADD', KEYS[k], '*', 'c', text)
  if type(id) ~= 'string' then return false end
  answer[k] = id
  return true
end

-- Pools that host all of these functions: what each has one call of can be given together.
local shared = may_give and #KEYS > 1 and shared_pools(KEYS)
if shared then
  local streams, ids, texts = {}, {}, {}
  for k = 1, #KEYS do
    if add_one(k) then
      local n = #streams + 1
      streams[n], ids[n], texts[n] = KEYS[k], answer[k], ARGV[k + 5]
    else
      add(k)
    end
  end
  for _, n in ipairs(give_each(ARGV[2], streams, ids, texts, shared)) do
    rings[#rings + 1] = { streams[n], string.match(ids[n], '^%d+') }
  end
else
  for k = 1, #KEYS do add(k) end
end
-- Who waits is told of what it was given first, and hears the bell for the rest afterwards.
tell_takers(ARGV[4], ARGV[5])
for i = 1, #rings do ring(rings[i][1], rings[i][2], false, rings[i][3]) end
if ARGV[3] == '1' and not may_give then answer[#KEYS + 1] = '-' end
return answer
