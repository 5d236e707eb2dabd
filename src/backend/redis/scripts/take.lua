-- Takes calls of a pool's due functions for one consumer, some of each function.
-- KEYS: 1 due, 2 wake, 3 offers, 4 given to this consumer
-- ARGV: 1 group, 2 consumer, 3 calls key before the function id, 4 and after it, 5 calls at the most,
--       6 functions to look at, 7 calls of one function at the most, 8 1 to take back the offer to take calls, 2 to take
--       it back when there are calls, then for functions with other places: id, places
-- Answer: 1 when there may be more, else 0; a list of what was given meanwhile; then function id, its entries, function
--         id, its entries, ...; an error when the group of a function is gone
local rooms, answer, taken, left, each = {}, {}, {}, tonumber(ARGV[5]), tonumber(ARGV[7])
for i = 9, #ARGV, 2 do rooms[ARGV[i]] = tonumber(ARGV[i + 1]) end

local given = {}
if ARGV[8] ~= '0' then
  given = redis.call('LRANGE', KEYS[4], 0, -1)
  for i = 1, #given do
    -- Given calls have a line before them, and what is pending is a line by itself.
    local is_given = string.sub(given[i], 1, 1) == '\t'
    left = left - (is_given and 0 or 1) - select(2, string.gsub(given[i], '\n', ''))
  end
end

local function read(calls, count)
  local found = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', count, 'STREAMS', calls, '>')
  if not found then return {} end
  return found.err and found or found[1][2]
end

local last = tonumber(ARGV[6]) + (#ARGV - 8) / 2
local due = redis.call('ZRANGE', KEYS[1], 0, last)
-- There may be more functions than are looked at.
local remains = #due > last
for i = 1, #due do
  local id = due[i]
  local room = rooms[id] or each
  if room == 0 or left <= 0 then
    remains = true
  else
    local count = math.min(room, left, math.max(1, math.floor(left / (#due - i + 1))))
    local calls = ARGV[3] .. id .. ARGV[4]
    local entries = read(calls, count)
    if entries.err then
      -- Its group is gone: somebody destroyed it. What was taken so far is told first, and this in the next look.
      if string.find(entries.err, '^NOGROUP') then
        if #answer == 0 and #given == 0 then return redis.error_reply(entries.err) end
        remains = true
        break
      end
      entries = {}
    end
    if #entries > 0 then
      answer[#answer + 1] = id
      answer[#answer + 1] = entries
      left = left - #entries
    end
    if #entries < count then
      taken[#taken + 1] = id
    else
      -- It may have more. Others come first next time.
      remains = true
      local time = redis.call('TIME')
      redis.call('ZADD', KEYS[1], 'XX', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), id)
    end
  end
end
-- An offer that brings nothing may stay until it is made anew: who looks because a bell rang is passed over otherwise by
-- who has a call for it just now (pass.lua).
-- pcall: what was read is this consumer's already, and is not told of when the script ends with an error.
if ARGV[8] == '1' or ARGV[8] == '2' and (#given > 0 or #answer > 0) then redis.pcall('ZREM', KEYS[3], ARGV[2]) end
if #taken > 0 then redis.call('ZREM', KEYS[1], unpack(taken)) end
if #due == 0 then
  redis.call('DEL', KEYS[2])
elseif remains and redis.pcall('LLEN', KEYS[2]) == 0 then
  -- The token that woke this consumer is spent, and there is work left that another may do.
  redis.call('RPUSH', KEYS[2], '1')
end
-- Last: what cannot be told in this look is told in the next one.
if #given > 0 then redis.call('DEL', KEYS[4]) end
table.insert(answer, 1, given)
table.insert(answer, 1, remains and 1 or 0)
return answer
