-- Carries out final outcomes of calls that one consumer ran, some for each stream of calls and of replies. What is
-- owned is acknowledged, answered and deleted, all in one step. Acknowledging tells what is owned: a call that was
-- handed over has left its id. An answer that cannot be written leaves its calls pending, to be said again.
-- KEYS: per group: stream of calls, stream of replies
-- ARGV: 1 consumer group, 2 consumer, then per group: number of calls, their answers as one text of a line each, or
--       nothing, and their entry ids
-- Answer: nothing when all was carried out, else { one-based numbers of the outcomes whose call was not owned, of those
--         that have to be said again, why, or '' }
local group, consumer, at = ARGV[1], ARGV[2], 3
local before, lost, again, why = 0, {}, {}, ''

-- Of calls that were not all pending: those that are still there, and that nobody holds (their group was deleted by
-- hand), are their finisher's; the others are somebody else's, or done.
local function sort_out(calls, ids, text)
  local owned, numbers, lines, answers = {}, {}, {}, {}
  for line in string.gmatch(text .. '\n', '(.-)\n') do lines[#lines + 1] = line end
  for i = 1, #ids do
    local there = redis.pcall('XRANGE', calls, ids[i], ids[i])
    if there.err or #there == 0 then
      lost[#lost + 1] = before + i
    else
      owned[#owned + 1] = ids[i]
      numbers[#numbers + 1] = before + i
      answers[#answers + 1] = lines[i]
    end
  end
  return owned, numbers, text ~= '' and table.concat(answers, '\n') or ''
end

-- Answers calls that were acknowledged, and deletes them. Nothing that is said again changes that a key is no stream;
-- with any other refusal they are pending again.
local function finish(calls, replies, ids, text, numbers)
  local added = text ~= '' and redis.pcall('XADD', replies, 'NOMKSTREAM', '*', 'r', text)
  if type(added) == 'table' and added.err then
    why = added.err
    if not string.find(added.err, 'WRONGTYPE', 1, true) then
      ids[#ids + 1] = 'FORCE'
      ids[#ids + 1] = 'JUSTID'
      redis.pcall('XCLAIM', calls, group, consumer, 0, unpack(ids))
      for i = 1, #ids - 2 do again[#again + 1] = numbers and numbers[i] or before + i end
      return
    end
  end
  redis.call('XDEL', calls, unpack(ids))
end

for k = 1, #KEYS, 2 do
  local calls, count, text = KEYS[k], tonumber(ARGV[at]), ARGV[at + 1]
  local ids = { unpack(ARGV, at + 2, at + 1 + count) }
  local acknowledged = redis.pcall('XACK', calls, group, unpack(ids))
  if acknowledged == count then
    finish(calls, KEYS[k + 1], ids, text)
  elseif type(acknowledged) == 'table' and not string.find(acknowledged.err, 'WRONGTYPE', 1, true) then
    why = acknowledged.err
    for i = 1, count do again[#again + 1] = before + i end
  else
    local owned, numbers, answers = sort_out(calls, ids, text)
    if #owned > 0 then finish(calls, KEYS[k + 1], owned, answers, numbers) end
  end
  at = at + 2 + count
  before = before + count
end
if #lost > 0 or #again > 0 or why ~= '' then return { lost, again, why } end
