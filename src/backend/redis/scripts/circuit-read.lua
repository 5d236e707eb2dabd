-- Reads a circuit; one that was open and that Redis forgot is written back.
-- KEYS: 1 record, 2 counts
-- ARGV: 1 channel, 2 functionName, 3 workflowId, 4 the record as the caller knows it, '' when that is closed
-- Answer: { record as JSON or '', Redis's clock in ms, why it could not be told or '' }
-- @include publish
-- @include record
-- @include circuit
return answer(load_or_restore(ARGV[4]))
