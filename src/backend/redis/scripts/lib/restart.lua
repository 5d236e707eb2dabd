-- The lease of who leads a restart; an empty one when there is none that can be read.
local function lease_of(text)
  local ok, lease = pcall(cjson.decode, text or '')
  return ok and type(lease) == 'table' and lease or {}
end

-- Whether this restart has the lead, and did not leave it to others.
local function leads(key, restart_id)
  local lease = lease_of(redis.call('GET', key))
  return lease.restartId == restart_id and lease.rest == nil
end
