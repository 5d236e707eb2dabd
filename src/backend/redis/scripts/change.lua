-- Changes a worker's status and tells it, to everybody and to its own process.
-- KEYS: 1 workers
-- ARGV: 1 workerId, 2 epoch or '', 3 new status, 4 channel, 5 functionName, 6 workflowId,
--       7 type of the notification, 8 reason or '', 9 estimatedDowntimeMs or '', 10 control channel's head
-- Answer: { the record as JSON, why it could not be told or '' }; nothing when no such worker is registered
-- @include publish
-- @include record
local old = redis.call('HGET', KEYS[1], ARGV[1])
if not old then return false end
local record = record_of(old)
if not record then return false end
if ARGV[2] ~= '' and tonumber(ARGV[2]) ~= record.epoch then return false end
-- A worker that drains is leaving: health cannot bring it back, and would only hide that it leaves.
if record.status == 'draining' and ARGV[7] == 'health' then return { old, '' } end
local time = redis.call('TIME')
record.timestamp = time[1] * 1000 + math.floor(time[2] / 1000)
record.seq = record.seq + 1
record.status = ARGV[3]
record.reason = nil
if ARGV[8] ~= '' then record.reason = ARGV[8] end
local encoded = cjson.encode(record)
redis.call('HSET', KEYS[1], ARGV[1], encoded)
local data = {
  type = ARGV[7], functionName = ARGV[5], workflowId = ARGV[6], workerId = ARGV[1], epoch = record.epoch,
  seq = record.seq, timestamp = record.timestamp,
}
if ARGV[7] == 'health' then data.healthy = record.status == 'ready' end
if ARGV[8] ~= '' then data.reason = ARGV[8] end
if ARGV[9] ~= '' then data.estimatedDowntimeMs = tonumber(ARGV[9]) end
publish(ARGV[4], data)
if ARGV[7] == 'health' then publish(ARGV[10] .. tostring(record.processId), data, 'control') end
return { encoded, untold }
