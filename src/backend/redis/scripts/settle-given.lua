-- Carries out final outcomes of calls that were given to one session, by the caller that they are for, in one step. What
-- lies in the session's inbox is owned: it is answered and taken out. An answer that cannot be written leaves its
-- caller's calls there, to be said again.
-- KEYS: 1 inbox, then per caller: its stream of replies
-- ARGV: per caller: the answers to all of its calls as one text of a line each, or nothing, number of calls, their ids
-- Answer: as settle.lua's
local inbox, at, number, lost, again, why = KEYS[1], 1, 0, {}, {}, ''

-- The answers to what is owned alone.
local function answers_to(owned, text)
  local answers, n = {}, 0
  for line in string.gmatch(text .. '\n', '(.-)\n') do
    n = n + 1
    if owned[n] then answers[#answers + 1] = line end
  end
  return table.concat(answers, '\n')
end

for key = 2, #KEYS do
  local text, count, first = ARGV[at], tonumber(ARGV[at + 1]), at + 2
  local owned, missing = {}, 0
  for n = 1, count do
    local there = redis.pcall('HEXISTS', inbox, ARGV[first + n - 1])
    if there == 1 then
      owned[n] = true
    elseif type(there) == 'table' and not string.find(there.err, 'WRONGTYPE', 1, true) then
      return there
    else
      missing = missing + 1
      lost[#lost + 1] = number + n
    end
  end
  if missing > 0 and text ~= '' then text = missing < count and answers_to(owned, text) or '' end
  local added = text ~= '' and redis.pcall('XADD', KEYS[key], 'NOMKSTREAM', '*', 'r', text)
  local refused = type(added) == 'table' and added.err
  if refused then why = refused end
  -- Nothing that is said again changes that a key is no stream.
  if refused and not string.find(refused, 'WRONGTYPE', 1, true) then
    for n = 1, count do
      if owned[n] then again[#again + 1] = number + n end
    end
  elseif missing < count then
    redis.call('HDEL', inbox, unpack(ARGV, first, first + count - 1))
  end
  number, at = number + count, first + count
end
if #lost > 0 or #again > 0 or why ~= '' then return { lost, again, why } end
