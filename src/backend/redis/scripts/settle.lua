-- Carries out final outcomes of calls that one consumer ran, by the caller that they are for. What is owned is
-- acknowledged, answered and deleted, all in one step. Acknowledging tells what is owned: a call that was handed over
-- has left its id. An answer that cannot be written leaves its caller's calls pending, to be said again.
-- KEYS: per caller: its stream of replies, then the streams of calls of the functions that it called
-- ARGV: 1 consumer group, 2 consumer, then per caller: number of functions, the answers to all of its calls as one text
--       of a line each, or nothing, then per function: number of calls, their entry ids
-- Answer: nothing when all was carried out, else { one-based numbers of the outcomes whose call was not owned, of those
--         that have to be said again, why, or '' }

-- A call by itself, without the preparations for many: they are a third of such a script's time, and its caller waits
-- for it. What it does not find as it should be is left to them: they find the same.
if #KEYS == 2 and #ARGV == 6 and ARGV[4] ~= '' and redis.pcall('XACK', KEYS[2], ARGV[1], ARGV[6]) == 1 then
  local added = redis.pcall('XADD', KEYS[1], 'NOMKSTREAM', '*', 'r', ARGV[4])
  if type(added) ~= 'table' then
    redis.call('XDEL', KEYS[2], ARGV[6])
    return false
  end
end

local group, consumer, at, key = ARGV[1], ARGV[2], 3, 1
local number, lost, again, why = 0, {}, {}, ''

-- Of a function's calls that were not all pending: those that are still there, and that nobody holds (their group was
-- deleted by hand), are their finisher's; the others are somebody else's, or done.
local function sort_out(calls, ids, first)
  local owned = { ids = {}, numbers = {} }
  for i = 1, #ids do
    local there = redis.pcall('XRANGE', calls, ids[i], ids[i])
    if there.err or #there == 0 then
      lost[#lost + 1] = first + i
    else
      owned.ids[#owned.ids + 1] = ids[i]
      owned.numbers[#owned.numbers + 1] = first + i
    end
  end
  return owned
end

-- What is owned of a function's calls when not all of them were acknowledged, or why none was.
local function owned_of(calls, ids, done, first)
  if type(done) == 'number' or string.find(done.err, 'WRONGTYPE', 1, true) then return sort_out(calls, ids, first) end
  why = done.err
  for i = 1, #ids do again[#again + 1] = first + i end
  return { ids = {}, numbers = {} }
end

-- The answers to what is owned alone: `partly` has the functions of which not all is, by their place.
local function answers_to(partly, sizes, text, first)
  local lines, answers = {}, {}
  for line in string.gmatch(text .. '\n', '(.-)\n') do lines[#lines + 1] = line end
  local before = first
  for i = 1, #sizes do
    local numbers = partly[i] and partly[i].numbers
    for j = 1, numbers and #numbers or sizes[i] do
      answers[#answers + 1] = lines[(numbers and numbers[j] or before + j) - first]
    end
    before = before + sizes[i]
  end
  return table.concat(answers, '\n')
end

local function keep_pending(calls, ids, numbers, before)
  for j = 1, #ids do again[#again + 1] = numbers and numbers[j] or before + j end
  ids[#ids + 1] = 'FORCE'
  ids[#ids + 1] = 'JUSTID'
  redis.pcall('XCLAIM', calls, group, consumer, 0, unpack(ids))
end

while key <= #KEYS do
  local replies, count, text, first = KEYS[key], tonumber(ARGV[at]), ARGV[at + 1], number
  local begin, sizes, partly = at + 2, {}, nil
  at = begin
  for i = 1, count do
    local calls, size = KEYS[key + i], tonumber(ARGV[at])
    local done = redis.pcall('XACK', calls, group, unpack(ARGV, at + 1, at + size))
    if done ~= size then
      partly = partly or {}
      partly[i] = owned_of(calls, { unpack(ARGV, at + 1, at + size) }, done, number)
    end
    sizes[i] = size
    number = number + size
    at = at + size + 1
  end
  if partly and text ~= '' then text = answers_to(partly, sizes, text, first) end
  local added = text ~= '' and redis.pcall('XADD', replies, 'NOMKSTREAM', '*', 'r', text)
  local refused = type(added) == 'table' and added.err
  if refused then why = refused end
  -- Nothing that is said again changes that a key is no stream.
  local keep = refused and not string.find(refused, 'WRONGTYPE', 1, true)
  local from, before = begin + 1, first
  for i = 1, count do
    local calls, size, one = KEYS[key + i], sizes[i], partly and partly[i]
    if one and #one.ids == 0 then
      -- None of it is owned.
    elseif keep then
      keep_pending(calls, one and one.ids or { unpack(ARGV, from, from + size - 1) }, one and one.numbers, before)
    else
      redis.call('XDEL', calls, unpack(one and one.ids or ARGV, one and 1 or from, one and #one.ids or from + size - 1))
    end
    from = from + size + 1
    before = before + size
  end
  key = key + 1 + count
end
if #lost > 0 or #again > 0 or why ~= '' then return { lost, again, why } end
