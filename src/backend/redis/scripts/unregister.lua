-- Removes a worker and tells that it is offline.
-- KEYS: 1 workers, 2 last epoch, 3 bells, 4 calls
-- ARGV: 1 workerId, 2 epoch or '', 3 channel, 4 functionName, 5 workflowId, 6 reason,
--       7 function id, 8 hosted key before the session, 9 and after it, 10 sessionId or '',
--       11 how long the epoch is remembered, in milliseconds, 12 control channel's head
-- Answer: { 1 when it was registered (in that epoch, by that session), else 0, why it could not be told or '' }
-- @include pools
-- @include publish
-- @include record
-- @include ring
local old = redis.call('HGET', KEYS[1], ARGV[1])
if not old then return { 0, '' } end
local record = record_of(old)
if not record then
  redis.call('HDEL', KEYS[1], ARGV[1])
  return { 0, '' }
end
if ARGV[2] ~= '' and tonumber(ARGV[2]) ~= record.epoch then return { 0, '' } end
if ARGV[10] ~= '' and ARGV[10] ~= record.processId then return { 0, '' } end
local time = redis.call('TIME')
redis.call('HDEL', KEYS[1], ARGV[1])
-- The function stays among what its session hosts, without the worker: calls of it may still be pending for that
-- session. One member for each function, however many workers came and went.
-- pcall: a user that may not change what another host's process hosts leaves a member that nobody misses.
local hosted = ARGV[8] .. tostring(record.processId) .. ARGV[9]
if redis.pcall('SREM', hosted, cjson.encode({ ARGV[7], ARGV[1] })) == 1 then
  redis.call('SADD', hosted, cjson.encode({ ARGV[7], '' }))
end
local known = tonumber(redis.call('GET', KEYS[2]) or '0')
local last = math.max(record.epoch, is_count(known) and known or 0)
-- Its process may be gone: nothing is given to it any more. One that lives offers anew, if it may.
if type(record.pool) == 'string' then redis.pcall('ZREM', record.pool .. ':offers', record.processId) end
leave_pool(record.pool, KEYS[1], KEYS[3], ARGV[7])
-- It may have spent the token that told of a call.
if redis.call('EXISTS', KEYS[3]) == 1 and redis.call('XLEN', KEYS[4]) > 0 then ring(KEYS[4], time[1] * 1000, true) end
redis.call('SET', KEYS[2], string.format('%.0f', last), 'PX', ARGV[11])
publish(ARGV[3], {
  type = 'offline', functionName = ARGV[4], workflowId = ARGV[5], workerId = ARGV[1], epoch = record.epoch,
  seq = record.seq + 1, timestamp = time[1] * 1000 + math.floor(time[2] / 1000), reason = ARGV[6],
})
if ARGV[10] == '' then
  -- Its own process knows, or has to learn, that it is not to take calls any more.
  publish(ARGV[12] .. tostring(record.processId), {
    type = 'unregistered', functionName = ARGV[4], workflowId = ARGV[5], workerId = ARGV[1], epoch = record.epoch,
  }, 'control')
end
return { 1, untold }
