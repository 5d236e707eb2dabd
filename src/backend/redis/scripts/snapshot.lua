-- Everything the registry knows of a function, at one moment.
-- KEYS: 1 workers, 2 definition
-- ARGV: 1 lease key before the session, 2 and after it
-- Answer: { Redis's clock, definition or '', then per worker: record as JSON, 1 or 0 (its lease lives) }
local time = redis.call('TIME')
local answer = {
  string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)),
  redis.call('GET', KEYS[2]) or '',
}
local flat = redis.call('HGETALL', KEYS[1])
for i = 2, #flat, 2 do
  local ok, record = pcall(cjson.decode, flat[i])
  if ok and type(record) == 'table' then
    answer[#answer + 1] = flat[i]
    answer[#answer + 1] = redis.call('EXISTS', ARGV[1] .. tostring(record.processId) .. ARGV[2])
  end
end
return answer
