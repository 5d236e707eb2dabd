-- Opens, closes or resets a circuit by hand.
-- KEYS: 1 record, 2 counts
-- ARGV: 1 channel, 2 functionName, 3 workflowId, 4 open, close or reset, 5 reason, 6 for how many ms, '' for ever
-- Answer: { record as JSON or '', Redis's clock in ms, why it could not be told or '' }
-- @include publish
-- @include record
-- @include circuit
local record = load()
if ARGV[4] == 'open' then
  move(record, 'open', ARGV[6] ~= '' and now + tonumber(ARGV[6]) or nil, ARGV[5])
elseif ARGV[4] == 'reset' or record.state ~= 'closed' then
  move(record, 'closed')
end
return answer(record)
