-- Registers a worker: record, lease, definition and the ready notification in one step.
-- KEYS: 1 workers, 2 definition, 3 lease, 4 hosted, 5 workflow's functions, 6 processes, 7 last epoch,
--       8 bells, 9 calls
-- ARGV: 1 functionName, 2 workflowId, 3 workerId, 4 sessionId, 5 epoch, 6 leaseMs, 7 definition ('' keeps the stored one),
--       8 fingerprint, 9 ready channel, 10 function id, 11 lease key before the session, 12 and after it,
--       13 pool whose bell it hears or '', 14 generation of the workflow that it has loaded, 15 key of generations
-- Answer: nothing when the session is lost; else { record as JSON, the living session that was replaced or '',
--         why it could not be told or '' }
-- @include pools
-- @include publish
-- @include record
-- @include ring
-- A session that was condemned, or that Redis forgot, has to join anew first.
local listed = redis.call('HGET', KEYS[6], ARGV[4])
if not listed or listed == 'condemned' then return false end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A life that begins anew has a higher epoch than any before it, in this session too: watchers remember that
-- the worker left at (epoch, seq), and what is older than that is no news to them.
local epoch, seq, replaced, pool_before = math.max(now, tonumber(ARGV[5])), 1, '', nil
local last = tonumber(redis.call('GET', KEYS[7]) or '0')
if is_count(last) and last >= epoch then epoch = last + 1 end
local before = record_of(redis.call('HGET', KEYS[1], ARGV[3]) or '')
if before then
  pool_before = before.pool
  if before.processId == ARGV[4] then
    epoch, seq = before.epoch, before.seq + 1
  else
    if before.epoch >= epoch then epoch = before.epoch + 1 end
    if redis.call('EXISTS', ARGV[11] .. tostring(before.processId) .. ARGV[12]) == 1 then
      replaced = before.processId
    end
  end
end
local record = cjson.encode({
  workerId = ARGV[3], processId = ARGV[4], epoch = epoch, seq = seq, status = 'ready', timestamp = now,
  definition = ARGV[8], generation = tonumber(ARGV[14]), pool = ARGV[13] ~= '' and ARGV[13] or nil,
})
redis.call('SET', KEYS[3], ARGV[5], 'PX', ARGV[6])
redis.call('HSET', KEYS[1], ARGV[3], record)
if ARGV[7] ~= '' then redis.call('SET', KEYS[2], ARGV[7]) end
redis.call('SADD', KEYS[4], cjson.encode({ ARGV[10], ARGV[3] }))
redis.call('SADD', KEYS[5], ARGV[1])
if pool_before and pool_before ~= ARGV[13] then leave_pool(pool_before, KEYS[1], KEYS[8], ARGV[10]) end
if ARGV[13] ~= '' and redis.call('SADD', KEYS[8], ARGV[13]) == 1 and redis.call('XLEN', KEYS[9]) > 0 then
  -- What came before there was a bell.
  ring(KEYS[9], now)
end
if ARGV[14] ~= '0' then
  -- A generation that Redis has forgotten comes back with who has loaded it.
  -- pcall: a user of an older set of rules may not, and somebody may have put something else there.
  local known = redis.pcall('HGET', ARGV[15], 'generation')
  if type(known) ~= 'table' and (tonumber(known or '0') or 0) < tonumber(ARGV[14]) then
    redis.pcall('HSET', ARGV[15], 'generation', ARGV[14], 'details', 'null')
  end
end
publish(ARGV[9], {
  type = 'ready', functionName = ARGV[1], workflowId = ARGV[2], workerId = ARGV[3], epoch = epoch, seq = seq,
  timestamp = now, processId = ARGV[4], definition = ARGV[8], healthy = true,
  generation = tonumber(ARGV[14]),
})
return { record, replaced, untold }
