-- The supervisor's look at all sessions, which also keeps its lease, and tells its deputy that it lives.
-- KEYS: 1 supervisor, 2 processes, 3 delayed functions, 4 deputy, 5 unclaimed functions
-- ARGV: 1 sessionId of the supervisor, 2 leaseMs, 3 1 to look at leases too, 4 control channel's head,
--       5 lease key before the session, 6 and after it, 7 1 when nobody is given time any more to come back
-- Answer: nothing when the lease is lost; else { Redis's clock, sessions, absent list, lapsed list,
--         ids of functions that have a delayed call that is due, and, with leases, of functions whose calls that
--         nobody claimed are due, keys of such functions that hold something else }
local offices = redis.call('MGET', KEYS[1], KEYS[4])
if offices[1] ~= ARGV[1] then return false end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local time = redis.call('TIME')
local flat = redis.call('HGETALL', KEYS[2])
local deputy, deputy_listed = offices[2], nil
local sessions, expected, absent, lapsed = {}, {}, {}, {}
for i = 1, #flat, 2 do
  if flat[i] == deputy then deputy_listed = flat[i + 1] end
  sessions[#sessions + 1] = flat[i]
  -- A session that said that it has no presence is judged by its lease alone.
  if flat[i + 1] == 'present' then expected[#expected + 1] = flat[i] end
  if flat[i + 1] == 'condemned' then absent[#absent + 1] = flat[i] end
end
for from = 1, #expected, 1000 do
  local channels = {}
  for i = from, math.min(from + 999, #expected) do channels[#channels + 1] = ARGV[4] .. expected[i] end
  local counts = redis.call('PUBSUB', 'NUMSUB', unpack(channels))
  for i = 1, #channels do
    if tonumber(counts[i * 2]) == 0 then absent[#absent + 1] = expected[from + i - 1] end
  end
end
if ARGV[3] == '1' then
  for from = 1, #sessions, 1000 do
    local leases = {}
    for i = from, math.min(from + 999, #sessions) do leases[#leases + 1] = ARGV[5] .. sessions[i] .. ARGV[6] end
    -- Nearly always all of them are there: one question for all, and one for each only when one is not.
    if redis.call('EXISTS', unpack(leases)) < #leases then
      for i = 1, #leases do
        if redis.call('EXISTS', leases[i]) == 0 then lapsed[#lapsed + 1] = sessions[from + i - 1] end
      end
    end
  end
end
if deputy then
  -- pcall: where this user may not publish, the deputy asks. So does one that has no presence, and cannot hear.
  -- How many sessions there are tells it when the next look comes.
  local settled = ARGV[7] == '1' and ',"settled":true' or ''
  local told = '{"pattern":"control","data":{"type":"looked","sessions":' .. #sessions .. settled .. '}}'
  local heard = redis.pcall('PUBLISH', ARGV[4] .. deputy, told)
  if heard == 0 and deputy_listed ~= 'absent' then redis.call('DEL', KEYS[4]) end
end
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local broken = {}
-- pcall: the dead are seen all the same.
local function due_in(key)
  local due = redis.pcall('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, 100)
  if not due.err then return due end
  broken[#broken + 1] = key
  return {}
end
local due, unclaimed = due_in(KEYS[3]), {}
if ARGV[3] == '1' then unclaimed = due_in(KEYS[5]) end
return { now, #sessions, absent, lapsed, due, unclaimed, broken }
