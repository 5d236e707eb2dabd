-- Adds calls to their functions' streams, as long as the functions' backlogs allow it.
-- KEYS: streams of calls
-- ARGV: 1 calls that a function may have, waiting and running, 2 group, 3 1 to give calls to who offers to take them,
--       4 key of what is given before the session, 5 and after it, then per stream: the calls, a line each. A call
--       whose first word has a 'w' is written again, and was let in before.
-- Answer: per stream the entry id of its first call when the others' follow it without a gap, else a list: per call its
--         entry id, '!full <backlog>', or '!' and what Redis said; then '-' when this user may not give
-- @include ring
-- @include give
local max, answer, rings = tonumber(ARGV[1]), {}, {}
may_give = ARGV[3] == '1'
for k = 1, #KEYS do
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
    if length >= max and not string.find(call, '^%S*w') then
      id = '!full ' .. length
      gaps = true
    else
      id = redis.pcall('XADD', calls, '*', 'c', call)
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
-- Who waits is told of what it was given first, and hears the bell for the rest afterwards.
tell_takers(ARGV[4], ARGV[5])
for i = 1, #rings do ring(rings[i][1], rings[i][2], false, rings[i][3]) end
if ARGV[3] == '1' and not may_give then answer[#KEYS + 1] = '-' end
return answer
