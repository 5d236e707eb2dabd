-- How late a command is executed that was sent at a time of Redis's clock, in milliseconds: Redis may have stood
-- still, or been cut off, and a call's time runs meanwhile. Less than a second is the clocks' own inexactness.
local function lateness(sent_at)
  if sent_at == '' then return 0 end
  local time = redis.call('TIME')
  local late = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(sent_at)
  return late >= 1000 and late or 0
end
