-- Whether this restart has the lead.
local function leads(key, restart_id)
  local ok, lease = pcall(cjson.decode, redis.call('GET', key) or '')
  return ok and type(lease) == 'table' and lease.restartId == restart_id
end
