-- Puts calls of a function that are due back into its stream.
-- KEYS: 1 calls, 2 delayed, 3 aside, 4 delayed functions
-- ARGV: 1 function id, 2 how many at the most, 3 reply stream before the process, 4 and after it
-- Answer: how many
-- @include entry
-- @include ring
-- @include tell
local calls = KEYS[1]

-- What postpone.lua has packed. Anything else was written by somebody else: it is dropped, and holds nobody up.
local function fields_of(packed)
  local ok, fields = pcall(cmsgpack.unpack, packed)
  if not ok or type(fields) ~= 'table' or #fields == 0 or #fields % 2 == 1 then return nil end
  for i = 1, #fields do
    if type(fields[i]) ~= 'string' then return nil end
  end
  return fields
end

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[2])
local moved
for i = 1, #due do
  local fields = fields_of(redis.call('HGET', KEYS[3], due[i]))
  if fields then
    local entry = entry_of(fields)
    moved = redis.call('XADD', calls, '*', unpack(entry.fields))
    if entry.get('k') then redis.call('HSET', once_key(calls, entry.get('k')), 'entry', moved) end
    tell({ ARGV[3], ARGV[4] }, calls, entry, cjson.encode({ k = 'm', d = moved }))
  end
  redis.call('HDEL', KEYS[3], due[i])
  redis.call('ZREM', KEYS[2], due[i])
end
if moved then ring(calls, now) end
local next_due = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
if next_due[2] then
  redis.call('ZADD', KEYS[4], next_due[2], ARGV[1])
else
  redis.call('ZREM', KEYS[4], ARGV[1])
end
return #due
