-- Tells the pools that host a function that a call of it waits. A pool's due functions are a set, so ringing
-- twice is as good as once. A token wakes one process that waits for the pool's bell; who finds more than it can
-- take leaves another one, so one is enough for all that a script adds.
-- token_lost: who had the token may be gone with it, so what is due already is rung for again.
-- pcall: the call is written already, and a bell that somebody broke must not make it look as if it were not.
local rung = {}
local function pools_of(calls)
  local pools = redis.pcall('SMEMBERS', string.sub(calls, 1, -6) .. 'bells')
  return pools.err and {} or pools
end

local function ring(calls, at, token_lost, known_pools)
  local pools = known_pools or pools_of(calls)
  if #pools == 0 then return end
  local id = string.match(calls, '.*{(.*)}:calls$')
  for i = 1, #pools do
    local pool = pools[i]
    local is_new = redis.pcall('ZADD', pool .. ':due', 'NX', at, id) == 1
    if (is_new or token_lost) and not rung[pool] then
      rung[pool] = true
      local tokens = redis.pcall('RPUSH', pool .. ':wake', '1')
      if type(tokens) == 'number' and tokens > 16 then redis.pcall('LPOP', pool .. ':wake') end
    end
  end
end
