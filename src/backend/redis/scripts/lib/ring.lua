-- Tells the pools that host a function that a call of it waits. A pool's due functions are a set, so ringing
-- twice is as good as once; a token wakes one process that waits for the pool's bell.
local function ring(calls, at)
  local pools = redis.call('SMEMBERS', string.sub(calls, 1, -6) .. 'bells')
  if #pools == 0 then return end
  local id = string.match(calls, '.*{(.*)}:calls$')
  for i = 1, #pools do
    if redis.call('ZADD', pools[i] .. ':due', 'NX', at, id) == 1 then
      if redis.call('RPUSH', pools[i] .. ':wake', '1') > 16 then redis.call('LPOP', pools[i] .. ':wake') end
    end
  end
end
