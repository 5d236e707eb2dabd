-- Puts calls back that a destroyed group had delivered, or had not, and that nobody claimed: before the end of what
-- the group has read, and not pending. In a group that was not destroyed there is none. One that must run at most
-- once may have run: its caller is told. Nothing is done before the time to claim is over, and when it is all done the
-- function is no longer noted as unclaimed; until then whoever comes begins again.
-- KEYS: 1 calls, 2 unclaimed
-- ARGV: 1 group, 2 how many entries to look at, 3 reply stream before the process, 4 and after it,
--       5 function's name for texts, 6 id after which to look, 7 function id
-- Answer: how many were nobody's, and the id after which to look next or ''
-- @include entry
-- @include ring
-- @include tell
local calls, reply_parts = KEYS[1], { ARGV[3], ARGV[4] }
local last
local time = redis.call('TIME')
local due = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[7]) or 0)
-- It was destroyed once more.
if due > time[1] * 1000 + math.floor(time[2] / 1000) then return { 0, '' } end
local function finish(adopted)
  redis.call('ZREM', KEYS[2], ARGV[7])
  return { adopted, '' }
end

local ok, groups = pcall(redis.call, 'XINFO', 'GROUPS', calls)
if not ok then return finish(0) end
for i = 1, #groups do
  local group = {}
  for at = 1, #groups[i], 2 do group[groups[i][at]] = groups[i][at + 1] end
  if group.name == ARGV[1] then last = group['last-delivered-id'] end
end
-- Who makes the group notes it again.
if not last then return finish(0) end
local entries = redis.call('XRANGE', calls, '(' .. ARGV[6], last, 'COUNT', ARGV[2])
local adopted, moved = 0, nil
for i = 1, #entries do
  local id = entries[i][1]
  if #redis.call('XPENDING', calls, ARGV[1], id, id, 1) == 0 then
    adopted = adopted + 1
    redis.call('XDEL', calls, id)
    local entry = entry_of(entries[i][2])
    if entry.at_most_once then
      tell(reply_parts, calls, entry, cjson.encode({ k = 'e', o = 1, e = {
        code = 'WORKER_LOST', retryable = false, details = { reason = 'group_destroyed' },
        message = 'The consumer group of ' .. ARGV[5] .. ' was destroyed, nobody knows whether the call has run, and ' ..
          'delivery at-most-once forbids running it again.',
      } }))
      if entry.get('k') then redis.call('DEL', once_key(calls, entry.get('k'))) end
    else
      entry.keep_origin(id)
      moved = redis.call('XADD', calls, '*', unpack(entry.fields))
      if entry.get('k') then redis.call('HSET', once_key(calls, entry.get('k')), 'entry', moved) end
      tell(reply_parts, calls, entry, cjson.encode({ k = 'm', d = moved }))
    end
  end
end
if moved then ring(calls, string.match(moved, '^%d+')) end
if #entries < tonumber(ARGV[2]) then return finish(adopted) end
return { adopted, entries[#entries][1] }
