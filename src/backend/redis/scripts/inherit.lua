-- Gives what a session of a process holds to its next session, and forgets the consumer.
-- KEYS: 1 calls
-- ARGV: 1 group, 2 old consumer, 3 new consumer
-- Answer: the entries
local answer = {}
while true do
  local ok, pending = pcall(redis.call, 'XPENDING', KEYS[1], ARGV[1], '-', '+', 200, ARGV[2])
  if not ok then return answer end
  local ids = {}
  for i = 1, #pending do ids[i] = pending[i][1] end
  if #ids == 0 then break end
  for i = 1, #ids do
    local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, ids[i])[1]
    if claimed then answer[#answer + 1] = claimed
    -- It was deleted while it was pending.
    else redis.call('XACK', KEYS[1], ARGV[1], ids[i]) end
  end
end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return answer
