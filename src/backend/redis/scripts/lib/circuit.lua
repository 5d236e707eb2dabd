-- A function's circuit: the record in KEYS[1], what its callers counted in KEYS[2]. ARGV: 1 channel, 2 functionName,
-- 3 workflowId. Needs publish and record.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A record outlives its retryAt, and a closed one its change, by far more than news and reports are under way.
local kept_ms = 3600000

local function circuit_of(text)
  local ok, record = pcall(cjson.decode, text or '')
  if not ok or type(record) ~= 'table' or not is_count(record.generation) then return end
  if type(record.state) ~= 'string' then return end
  if record.retryAt ~= nil and not is_count(record.retryAt) then return end
  return record
end

local function load()
  return circuit_of(redis.call('GET', KEYS[1])) or { generation = 0, state = 'closed', since = 0 }
end

local function save(record)
  local text = cjson.encode(record)
  if record.state == 'open' and not record.retryAt then
    -- Held by hand: until it is closed by hand.
    redis.call('SET', KEYS[1], text)
  else
    redis.call('SET', KEYS[1], text, 'PX', string.format('%.0f', math.max(0, (record.retryAt or 0) - now) + kept_ms))
  end
end

-- Into another state: under a new generation, with nothing counted, and told. Fields that this version does not know stay.
local function move(record, state, retry_at, reason, prober)
  record.generation = math.max(now, record.generation + 1)
  record.state, record.since, record.retryAt, record.reason, record.prober = state, now, retry_at, reason, prober
  save(record)
  redis.call('DEL', KEYS[2])
  local data = { type = 'circuit', functionName = ARGV[2], workflowId = ARGV[3], timestamp = now }
  for _, field in ipairs({ 'generation', 'state', 'since', 'retryAt', 'reason', 'prober' }) do
    data[field] = record[field]
  end
  publish(ARGV[1], data)
end

-- The record; what its caller knows of it where Redis has forgotten it.
local function load_or_restore(known)
  local record = load()
  local lost = record.generation == 0 and circuit_of(known)
  if not lost then return record end
  move(lost, 'open', lost.retryAt, lost.reason)
  return lost
end

local function answer(record, ...)
  return { record.generation == 0 and '' or cjson.encode(record), string.format('%.0f', now), untold, ... }
end
