-- Adds calls to their functions' streams, as long as the functions' backlogs allow it.
-- KEYS: streams of calls
-- ARGV: 1 calls that a function may have, waiting and running, then per stream: the calls, a line each. A call
--       whose first word has a 'w' is written again, and was let in before.
-- Answer: per stream the entry id of its first call when the others' follow it without a gap, else a list: per call its
--         entry id, '!full <backlog>', or '!' and what Redis said; then, where functions are in pools, per stream a list
--         of its pools
-- @include ring
local max, answer, rings, pools_of_all = tonumber(ARGV[1]), {}, {}, {}

-- One function's calls.
local function add(k)
  local calls, text = KEYS[k], ARGV[k + 1]
  local length = redis.pcall('XLEN', calls)
  if type(length) == 'table' then length = 0 end
  local ids, last, gaps, from = {}, nil, false, 1
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
      end
    end
    ids[#ids + 1] = id
  until not from
  local pools = pools_of(calls)
  pools_of_all[k] = pools
  if #pools > 0 then pools_of_all.any = true end
  if last and #pools > 0 then rings[#rings + 1] = { calls, string.match(last, '^%d+'), pools } end
  if #ids > 1 and not gaps then
    local ms, first = string.match(ids[1], '^(%d+)-(%d+)$')
    gaps = last ~= ms .. '-' .. string.format('%d', first + #ids - 1)
  end
  answer[k] = gaps and ids or ids[1]
end

for k = 1, #KEYS do add(k) end
for i = 1, #rings do ring(rings[i][1], rings[i][2], false, rings[i][3]) end
if pools_of_all.any then
  for k = 1, #KEYS do answer[#KEYS + k] = pools_of_all[k] end
end
return answer
