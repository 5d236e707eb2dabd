-- Says how a probe stands. One that was taken over, or ended by hand, has another generation.
-- KEYS: 1 record, 2 counts
-- ARGV: 1 channel, 2 functionName, 3 workflowId, 4 generation of the probe, 5 keep, success, failure or none,
--       6 ms: the lease, or how long it stays open
-- Answer: { record as JSON or '', Redis's clock in ms, why it could not be told or '' }
-- @include publish
-- @include record
-- @include circuit
local record = load()
if record.state ~= 'half-open' or record.generation ~= tonumber(ARGV[4]) then return answer(record) end
local till = now + tonumber(ARGV[6])
if ARGV[5] == 'keep' then
  record.retryAt = till
  save(record)
elseif ARGV[5] == 'success' then
  move(record, 'closed')
else
  move(record, 'open', till, ARGV[5] == 'failure' and 'probe-failed' or record.reason)
end
return answer(record)
