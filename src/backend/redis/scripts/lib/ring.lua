-- Tells the pools that host a function that a call of it waits. A pool's due functions are a set, so ringing
-- twice is as good as once; a token wakes one process that waits for the pool's bell.
-- pcall: the call is written already, and a bell that somebody broke must not make it look as if it were not.
local function ring(calls, at)
  local pools = redis.pcall('SMEMBERS', string.sub(calls, 1, -6) .. 'bells')
  if pools.err or #pools == 0 then return end
  local id = string.match(calls, '.*{(.*)}:calls$')
  for i = 1, #pools do
    if redis.pcall('ZADD', pools[i] .. ':due', 'NX', at, id) == 1 then
      local tokens = redis.pcall('RPUSH', pools[i] .. ':wake', '1')
      if type(tokens) == 'number' and tokens > 16 then redis.call('LPOP', pools[i] .. ':wake') end
    end
  end
end
