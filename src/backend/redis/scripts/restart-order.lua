-- Orders a session to restart its workers of a workflow, while the lead is held: who was frozen for longer than that
-- orders nothing more.
-- KEYS: 1 restart
-- ARGV: 1 restartId, 2 control channel of the session, 3 workflowId, 4 session that leads
-- Answer: 1, or 0 when the lead was lost
-- @include publish
-- @include restart
if not leads(KEYS[1], ARGV[1]) then return 0 end
publish(ARGV[2], { type = 'restart', restartId = ARGV[1], workflowId = ARGV[3], replyTo = ARGV[4] }, 'control')
if untold ~= '' then return redis.error_reply(untold) end
return 1
