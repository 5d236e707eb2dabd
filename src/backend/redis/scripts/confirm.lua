-- Looks at functions to which calls were added without a script, and rings for them where somebody hears it.
-- KEYS: streams of calls
-- Answer: per stream its length; -1 when its calls have to be rung for, or it cannot be read
-- @include ring
local time, answer = redis.call('TIME'), {}
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
for k = 1, #KEYS do
  local length, pools = redis.pcall('XLEN', KEYS[k]), pools_of(KEYS[k])
  local is_plain = type(length) == 'number' and #pools == 0
  if #pools > 0 then ring(KEYS[k], now, false, pools) end
  answer[k] = is_plain and length or -1
end
return answer
