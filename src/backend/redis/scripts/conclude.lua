-- Carries out outcomes of calls that one consumer ran. What is owned is answered first, then acknowledged and
-- deleted, all in one step: an answer that cannot be written leaves its call pending, to be concluded again.
-- KEYS: streams of calls and of replies, in the order of their indexes in ARGV
-- ARGV: 1 group, 2 consumer, 3 length from which on a reply stream takes no progress, 4 inbox before the session, 5 and
--       after it, then per outcome:
--       kind, index of its calls key, entry id, index of its reply key (0: none), callId, reply
-- Answer: { zero-based numbers of the outcomes whose call was not owned, of those that have to be said again,
--         why, or '' }
-- @include holding
local group, consumer, cap, inbox = ARGV[1], ARGV[2], tonumber(ARGV[3]), { ARGV[4], ARGV[5] }
local lost, again, why = {}, {}, ''

-- Which ids of a function are owned. Claiming what one holds changes nothing, and tells for all in one command.
local function owned_of(calls, all)
  local owned, ids = {}, {}
  for i = 1, #all do
    local key, field = inbox_of(inbox, all[i])
    if not key then
      ids[#ids + 1] = all[i]
    else
      local there = redis.pcall('HEXISTS', key, field)
      if there == 1 then
        owned[all[i]] = true
      elseif type(there) == 'table' and not string.find(there.err, 'WRONGTYPE', 1, true) then
        return nil, there.err
      end
    end
  end
  if #ids == 0 then return owned end
  ids[#ids + 1] = 'JUSTID'
  local claimed = redis.pcall('XCLAIM', calls, group, consumer, 0, unpack(ids))
  if not claimed.err then
    for i = 1, #claimed do owned[claimed[i]] = true end
  elseif string.find(claimed.err, 'WRONGTYPE', 1, true) then
    return owned
  elseif not string.find(claimed.err, 'NOGROUP', 1, true) then
    return nil, claimed.err
  end
  if not claimed.err and #claimed == #ids - 1 then return owned end
  -- Its group was deleted by hand: an entry that is still there, and that nobody holds, is its finisher's.
  for i = 1, #ids - 1 do
    if not owned[ids[i]] then
      local there = redis.pcall('XRANGE', calls, ids[i], ids[i])
      if not there.err and #there == 1 then owned[ids[i]] = true end
    end
  end
  return owned
end

local ids_of, streams = {}, {}
for at = 6, #ARGV, 6 do
  if ARGV[at] ~= 'progress' then
    local index = ARGV[at + 1]
    local ids = ids_of[index]
    if not ids then
      ids = {}
      ids_of[index] = ids
      streams[#streams + 1] = index
    end
    ids[#ids + 1] = ARGV[at + 2]
  end
end
local owned_in, problem_in = {}, {}
for i = 1, #streams do
  local index = streams[i]
  owned_in[index], problem_in[index] = owned_of(KEYS[tonumber(index)], ids_of[index])
end

-- Answers that follow each other are one entry of a reply stream. Progress is an entry each: the length of the stream
-- is what bounds it.
local function say(batch, kind, line)
  local lines = batch.entries[#batch.entries]
  if kind == 'progress' or not lines or batch.last == 'progress' then
    lines = {}
    batch.entries[#batch.entries + 1] = lines
  end
  batch.last = kind
  lines[#lines + 1] = line
end

local replies, order, room = {}, {}, {}
for at = 6, #ARGV, 6 do
  local number, kind, index, id, reply_index = (at - 6) / 6, ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local counts = true
  if kind == 'progress' then
    if room[reply_index] == nil then
      local length = redis.pcall('XLEN', KEYS[tonumber(reply_index)])
      room[reply_index] = type(length) == 'number' and cap - length or 0
    end
    counts = room[reply_index] > 0
    room[reply_index] = room[reply_index] - 1
  elseif problem_in[index] then
    counts = false
    again[#again + 1] = number
    why = problem_in[index]
  elseif not owned_in[index][id] then
    counts = false
    lost[#lost + 1] = number
  end
  if counts then
    local batch = replies[reply_index]
    if not batch then
      batch = { numbers = {}, entries = {}, done = {} }
      replies[reply_index] = batch
      order[#order + 1] = reply_index
    end
    if reply_index ~= '0' then say(batch, kind, ARGV[at + 4] .. '\t' .. ARGV[at + 5]) end
    if kind ~= 'progress' then batch.numbers[#batch.numbers + 1] = number end
    if kind == 'settle' or kind == 'discard' then
      local done = batch.done[index]
      if not done then
        done = {}
        batch.done[index] = done
      end
      done[#done + 1] = id
    end
  end
end

for i = 1, #order do
  local batch = replies[order[i]]
  local added = true
  for j = 1, #batch.entries do
    local lines = table.concat(batch.entries[j], '\n')
    added = redis.pcall('XADD', KEYS[tonumber(order[i])], 'NOMKSTREAM', '*', 'r', lines)
    -- Nothing that is said again changes that this key is no stream.
    if type(added) == 'table' and added.err and string.find(added.err, 'WRONGTYPE', 1, true) then
      why = added.err
      added = false
    end
    -- No stream, or none that may be written now: the rest has the same fate.
    if type(added) ~= 'string' then break end
  end
  if type(added) == 'table' and added.err then
    why = added.err
    for j = 1, #batch.numbers do again[#again + 1] = batch.numbers[j] end
  else
    for index, ids in pairs(batch.done) do
      local calls = KEYS[tonumber(index)]
      local pending = {}
      for j = 1, #ids do
        if inbox_of(inbox, ids[j]) then drop_held(inbox, calls, group, ids[j]) else pending[#pending + 1] = ids[j] end
      end
      if #pending > 0 then
        redis.pcall('XACK', calls, group, unpack(pending))
        redis.call('XDEL', calls, unpack(pending))
      end
    end
  end
end
return { lost, again, why }
