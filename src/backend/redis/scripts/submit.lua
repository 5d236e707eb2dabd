-- Adds calls to their functions' streams, as long as the functions' backlogs allow it.
-- KEYS: streams of calls, one per function of the batch
-- ARGV: 1 version of the entries, 2 process to answer, 3 calls that a function may have waiting and running,
--       4 when they were sent, on Redis's clock, or '',
--       then per call: index of its calls key, callId, time to live in milliseconds, payload,
--       flags ('m' at most once, 'w' written again)
-- Answer: per call its entry id, '!full <backlog>', '!late', or '!' and what Redis said
-- @include late
-- @include ring
local version, process, max = ARGV[1], ARGV[2], tonumber(ARGV[3])
local lengths, news, answer = {}, {}, {}
local late = lateness(ARGV[4])
for at = 5, #ARGV, 5 do
  local index, flags = tonumber(ARGV[at]), ARGV[at + 4]
  local calls, ttl = KEYS[index], ARGV[at + 2]
  if late > 0 then ttl = string.format('%.0f', ttl - late) end
  local length = lengths[index]
  if not length then
    length = redis.pcall('XLEN', calls)
    if type(length) == 'table' then length = 0 end
  end
  -- What is written again was let in before.
  if length >= max and not string.find(flags, 'w', 1, true) then
    answer[#answer + 1] = '!full ' .. length
  elseif late > 0 and tonumber(ttl) <= 0 then
    answer[#answer + 1] = '!late'
  else
    local id
    if flags == '' then
      id = redis.pcall('XADD', calls, '*', 'v', version, 'i', ARGV[at + 1], 'r', process, 't', ttl,
        'p', ARGV[at + 3])
    else
      local fields = { 'v', version, 'i', ARGV[at + 1], 'r', process, 't', ttl, 'p', ARGV[at + 3] }
      for flag in string.gmatch(flags, '%a') do
        fields[#fields + 1] = flag
        fields[#fields + 1] = '1'
      end
      id = redis.pcall('XADD', calls, '*', unpack(fields))
    end
    if type(id) == 'table' then
      answer[#answer + 1] = '!' .. tostring(id.err)
    else
      answer[#answer + 1] = id
      length = length + 1
      news[index] = id
    end
  end
  lengths[index] = length
end
for index, id in pairs(news) do ring(KEYS[index], string.match(id, '^%d+')) end
return answer
