-- Takes the probe of a circuit that is due: its time is up, or the lease of who had the probe.
-- KEYS: 1 record, 2 counts
-- ARGV: 1 channel, 2 functionName, 3 workflowId, 4 the record as the caller knows it or '', 5 caller, 6 leaseMs
-- Answer: { record as JSON or '', Redis's clock in ms, why it could not be told or '', 1 when it is the caller's }
-- @include publish
-- @include record
-- @include circuit
local record = load_or_restore(ARGV[4])
local is_waiting = record.state == 'open' or record.state == 'half-open'
if not is_waiting or not record.retryAt or record.retryAt > now then return answer(record, 0) end
move(record, 'half-open', now + tonumber(ARGV[6]), record.reason, ARGV[5])
return answer(record, 1)
