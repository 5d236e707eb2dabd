-- Makes a function's consumer group where it is missing. When other sessions host the function it was destroyed
-- under them, and they run calls of which the new group knows nothing: then it begins at the end of the stream,
-- they are told to claim what they run (claim.lua), and it is noted, in this same step, that what nobody claims has to
-- be adopted (adopt.lua): whoever makes the group may die in the moment after.
-- KEYS: 1 calls, 2 workers, 3 unclaimed
-- ARGV: 1 group, 2 sessionId, 3 control channel's head, 4 function id, 5 time to claim in milliseconds
-- Answer: { 1 when calls are left to be adopted, else 0, why they could not be told or '' }
-- @include publish
local others = {}
for _, text in ipairs(redis.call('HVALS', KEYS[2])) do
  local ok, record = pcall(cjson.decode, text)
  if ok and type(record) == 'table' and type(record.processId) == 'string' and record.processId ~= ARGV[2] then
    others[#others + 1] = record.processId
  end
end
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], #others == 0 and '0' or '$', 'MKSTREAM')
if made.err then
  if string.find(made.err, 'BUSYGROUP', 1, true) then return { 0, '' } end
  return made
end
if #others == 0 or redis.call('XLEN', KEYS[1]) == 0 then return { 0, '' } end
local time = redis.call('TIME')
local due = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[5]))
-- pcall: the group is made already.
redis.pcall('ZADD', KEYS[3], due, ARGV[4])
for i = 1, #others do
  publish(ARGV[3] .. others[i], { type = 'regrouped', functionId = ARGV[4] }, 'control')
end
return { 1, untold }
