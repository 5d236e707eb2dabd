-- Passes a call on that is bound to another generation of its workflow than that of the worker which got it: back into
-- the stream, at once or when it is due, while somebody of that generation lives; else it is answered.
-- KEYS: 1 calls, 2 delayed, 3 aside, 4 delayed functions, 5 workers
-- ARGV: 1 group, 2 entry id, 3 generation, 4 delay in milliseconds, 5 function id, 6 how many calls may be put aside,
--       7 function's name for texts, 8 lease key before the session, 9 and after it, 10 reply stream before the
--       process, 11 and after it
-- Answer: 1, or 0 when the call was not owned
-- @include entry
-- @include ring
-- @include tell
local calls, id, generation = KEYS[1], ARGV[2], tonumber(ARGV[3])
local reply_parts = { ARGV[10], ARGV[11] }
local found = redis.call('XRANGE', calls, id, id)[1]
if not found then return 0 end
local entry = entry_of(found[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Whether a worker of that generation lives, and is not about to leave.
local function is_served()
  for _, text in ipairs(redis.call('HVALS', KEYS[5])) do
    local ok, worker = pcall(cjson.decode, text)
    if ok and type(worker) == 'table' and worker.generation == generation and worker.status ~= 'draining'
      and redis.call('EXISTS', ARGV[8] .. tostring(worker.processId) .. ARGV[9]) == 1 then
      return true
    end
  end
  return false
end

local function answer()
  tell(reply_parts, calls, entry, cjson.encode({
    k = 'e', o = 1, e = {
      code = 'GENERATION_GONE', message = ARGV[7] .. ' has no worker of generation ' .. ARGV[3] .. ' left.',
      details = { generation = generation }, retryable = false,
    },
  }))
  if entry.get('k') then redis.call('DEL', once_key(calls, entry.get('k'))) end
end

local function put_aside()
  local due = string.format('%.0f', now + tonumber(ARGV[4]))
  redis.call('HSET', KEYS[3], id, cmsgpack.pack(entry.fields))
  redis.call('ZADD', KEYS[2], due, id)
  redis.call('ZADD', KEYS[4], 'LT', due, ARGV[5])
end

local function put_back()
  local moved = redis.call('XADD', calls, '*', unpack(entry.fields))
  if entry.get('k') then redis.call('HSET', once_key(calls, entry.get('k')), 'entry', moved) end
  tell(reply_parts, calls, entry, cjson.encode({ k = 'm', d = moved }))
  ring(calls, string.format('%.0f', now))
end

if is_served() then
  entry.keep_origin(id)
  entry.set('p', string.format('%d', (tonumber(entry.get('p') or '0') or 0) + 1))
  if ARGV[4] ~= '0' and redis.call('HLEN', KEYS[3]) < tonumber(ARGV[6]) then put_aside() else put_back() end
else
  answer()
end
redis.call('XACK', calls, ARGV[1], id)
redis.call('XDEL', calls, id)
return 1
