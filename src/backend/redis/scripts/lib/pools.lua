-- A worker has left a pool, or joined another: without a worker the pool's bell is not rung for the function any more.
local function leave_pool(pool, workers, bells, id)
  if type(pool) ~= 'string' then return end
  for _, text in ipairs(redis.call('HVALS', workers)) do
    local ok, worker = pcall(cjson.decode, text)
    if ok and type(worker) == 'table' and worker.pool == pool then return end
  end
  redis.call('SREM', bells, pool)
  redis.call('ZREM', pool .. ':due', id)
  if redis.call('EXISTS', pool .. ':due') == 0 then redis.call('DEL', pool .. ':wake') end
end
