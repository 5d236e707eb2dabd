-- Tells news. What they are about is done already, and stays so when they may not be told: readers poll. Why they
-- could not be told is part of a script's answer, '' when they were.
local untold = ''
local function publish(channel, data, pattern)
  local told = redis.pcall('PUBLISH', channel, cjson.encode({ pattern = pattern or channel, data = data }))
  if type(told) == 'table' and told.err then untold = told.err end
end
