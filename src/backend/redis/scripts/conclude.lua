-- Carries out the outcomes of one tick. An outcome that is tied to ownership changes nothing when its entry
-- is no longer there: a call that was handed over lives on under a new entry id, so the old one is gone. One that
-- is there and not pending lost its group, which somebody destroyed: it is still the call of who ran it.
-- KEYS: streams of calls and of replies, in the order of their indexes in ARGV
-- ARGV: 1 group, 2 length that a reply stream may have, then per outcome:
--       kind, index of its calls key, entry id, index of its reply key (0: none), callId, reply
-- Answer: { zero-based numbers of the outcomes whose call was not owned, why a reply could not be written or '' }
local group, cap = ARGV[1], ARGV[2]
local lost, replies, order, done = {}, {}, {}, {}
for at = 3, #ARGV, 6 do
  local kind, calls, id = ARGV[at], KEYS[tonumber(ARGV[at + 1])], ARGV[at + 2]
  local owned = true
  if kind == 'settle' or kind == 'discard' then
    owned = redis.call('XACK', calls, group, id) == 1
    if owned then
      local ids = done[calls]
      if not ids then
        ids = {}
        done[calls] = ids
      end
      ids[#ids + 1] = id
    else
      owned = redis.call('XDEL', calls, id) == 1
    end
  elseif kind == 'answer' then
    owned = #redis.call('XRANGE', calls, id, id) == 1
  end
  if not owned then
    lost[#lost + 1] = (at - 3) / 6
  elseif ARGV[at + 3] ~= '0' then
    local key = KEYS[tonumber(ARGV[at + 3])]
    local batch = replies[key]
    if not batch then
      batch = {}
      replies[key] = batch
      order[#order + 1] = key
    end
    batch[#batch + 1] = ARGV[at + 4]
    batch[#batch + 1] = ARGV[at + 5]
  end
end
for calls, ids in pairs(done) do
  redis.call('XDEL', calls, unpack(ids))
end
-- A reply stream that cannot be written (it is no stream, or full of memory) costs nobody else an answer.
local problem = ''
for i = 1, #order do
  local added = redis.pcall('XADD', order[i], 'NOMKSTREAM', 'MAXLEN', '~', cap, '*', unpack(replies[order[i]]))
  if type(added) == 'table' and added.err then problem = added.err end
end
return { lost, problem }
