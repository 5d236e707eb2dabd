-- Counts what a caller saw of a function, and opens its circuit when what all of them saw says so.
-- KEYS: 1 record, 2 counts
-- ARGV: 1 channel, 2 functionName, 3 workflowId, 4 caller, 5 generation under which the calls began, 6 calls,
--       7 failures, 8 windowMs, 9 minimumCalls, 10 failureRate, 11 quorum, 12 openMs,
--       13 settleMs
-- Answer: { record as JSON or '', Redis's clock in ms, why it could not be told or '' }
-- @include publish
-- @include record
-- @include circuit
-- @include counts
local record = load()
-- Of calls that began before the last change nothing is learnt about what came after it.
if record.state ~= 'closed' or record.generation ~= tonumber(ARGV[5]) then return answer(record) end
local window, rate = tonumber(ARGV[8]), tonumber(ARGV[10])
local calls_now, failures_now = tonumber(ARGV[6]), tonumber(ARGV[7])
local before = redis.call('HMGET', KEYS[2], '*', '@', ARGV[4])
local slots_before = slots_of(before[1], window)
-- `@`: when counting began.
local began = #slots_before > 0 and tonumber(before[2] or '') or now
local total, is_new = add_to(before[1], window, calls_now, failures_now)
local own = add_to(before[3], window, calls_now, failures_now)
redis.call('HSET', KEYS[2], '*', total, '@', string.format('%.0f', began), ARGV[4], own)
redis.call('PEXPIRE', KEYS[2], 2 * window)
local _, calls, failures = slots_of(total, window)
local is_settled = now - began >= tonumber(ARGV[13])
local might_open = is_settled and failures > 0 and calls >= tonumber(ARGV[9]) and failures >= rate * calls
-- All callers are looked at when it might open, and once per slot to forget those that left.
if might_open or is_new then
  local callers, failing = callers_of(window, rate)
  local needed = math.min(callers, math.max(2, math.floor(tonumber(ARGV[11]) * callers) + 1))
  if might_open and failing >= needed then move(record, 'open', now + tonumber(ARGV[12]), 'failure-rate') end
end
return answer(record)
