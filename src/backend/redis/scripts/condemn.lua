-- Ends a session's lease, if the evidence of its death still holds.
-- KEYS: 1 lease, 2 hosted, 3 processes, 4 inbox
-- ARGV: 1 'presence' or 'lease', 2 control channel of the session, 3 sessionId
-- Answer: nothing when it lives; else its hosted workers, each as JSON [function id, workerId]; and functions of which it
--         was given calls, with '' for the workerId: it may have died before it registered them
local listed = redis.call('HGET', KEYS[3], ARGV[3])
if listed == 'condemned' then
  -- By a supervisor that did not get to the end of it.
elseif ARGV[1] == 'presence' then
  if listed ~= 'present' then return false end
  if tonumber(redis.call('PUBSUB', 'NUMSUB', ARGV[2])[2]) > 0 then return false end
else
  if redis.call('EXISTS', KEYS[1]) == 1 then return false end
end
redis.call('DEL', KEYS[1])
-- From here on its heartbeat tells the session that it is lost, whatever comes of its lease.
if listed then redis.call('HSET', KEYS[3], ARGV[3], 'condemned') end
local hosted, known, from = redis.call('SMEMBERS', KEYS[2]), {}, '0'
for i = 1, #hosted do
  local ok, pair = pcall(cjson.decode, hosted[i])
  if ok and type(pair) == 'table' and pair[1] then known[pair[1]] = true end
end
repeat
  local found = redis.pcall('HSCAN', KEYS[4], from, 'COUNT', 100)
  -- An inbox that somebody replaced has nothing.
  if found.err then
    if not string.find(found.err, 'WRONGTYPE', 1, true) then return found end
    break
  end
  for i = 2, #found[2], 2 do
    local id = string.match(found[2][i], '^([^\t]*)\t')
    if id and not known[id] then
      known[id] = true
      hosted[#hosted + 1] = cjson.encode({ id, '' })
    end
  end
  from = found[1]
until from == '0'
return hosted
