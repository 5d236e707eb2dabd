-- Tells news about a workflow; `saved` raises its generation in the same step. The generation is Redis's clock at the
-- save, so that it grows also when Redis was emptied in between.
-- KEYS: 1 generation
-- ARGV: 1 workflowId, 2 type of the news, 3 channel, 4 details as JSON
-- Answer: { generation, Redis's clock in ms, why a save could not be told or '' }
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = tonumber(redis.call('HGET', KEYS[1], 'generation') or '0') or 0
if known < 0 or known >= 9007199254740991 then known = 0 end
local generation, untold = known, ''
if ARGV[2] == 'saved' then
  generation = math.max(now, known + 1)
  redis.call('HSET', KEYS[1], 'generation', string.format('%.0f', generation), 'details', ARGV[4])
end
-- The details as they are: Lua does not tell an empty list from an empty object.
local data = cjson.encode({ type = ARGV[2], workflowId = ARGV[1], generation = generation, timestamp = now })
local packet = '{"pattern":' .. cjson.encode(ARGV[3]) .. ',"data":' .. string.sub(data, 1, -2)
  .. ',"details":' .. ARGV[4] .. '}}'
local told = redis.pcall('PUBLISH', ARGV[3], packet)
if type(told) == 'table' and told.err then
  -- A save stands, told or not; the other news are nothing but told.
  if ARGV[2] ~= 'saved' then return told end
  untold = told.err
end
return { string.format('%.0f', generation), string.format('%.0f', now), untold }
