-- Tells the pools that host a function that a call of it waits. A pool's due functions are a set, so ringing
-- twice is as good as once. A token wakes one process that waits for the pool's bell; who finds more than it can
-- take leaves another one, so one is enough for all that a script adds.
local rung = {}
local function ring(calls, at)
  local pools = redis.call('SMEMBERS', string.sub(calls, 1, -6) .. 'bells')
  if #pools == 0 then return end
  local id = string.match(calls, '.*{(.*)}:calls$')
  for i = 1, #pools do
    local pool = pools[i]
    if redis.call('ZADD', pool .. ':due', 'NX', at, id) == 1 and not rung[pool] then
      rung[pool] = true
      if redis.call('RPUSH', pool .. ':wake', '1') > 16 then redis.call('LPOP', pool .. ':wake') end
    end
  end
end
