-- What was counted of a function within the window.
-- KEYS: 1 record, 2 counts
-- ARGV: 1 channel, 2 functionName, 3 workflowId, 4 windowMs, 5 failureRate
-- Answer: { calls, failures, callers, callers that see the failure rate }
-- @include publish
-- @include record
-- @include circuit
-- @include counts
local _, calls, failures = slots_of(redis.call('HMGET', KEYS[2], '*')[1], tonumber(ARGV[4]))
local callers, failing = callers_of(tonumber(ARGV[4]), tonumber(ARGV[5]))
return { calls, failures, callers, failing }
