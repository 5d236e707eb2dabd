-- Gives a call up whose handler failed for the last time: to the dead letters, and its caller is told.
-- KEYS: 1 calls, 2 dead letters
-- ARGV: 1 group, 2 entry id, 3 reply, 4 the failure as JSON, 5 reply stream before the process, 6 and after it,
--       7 length that the dead letters may have, 8 inbox before the session, 9 and after it
-- Answer: 1, 0 when the call was not owned, or why it has to be said again
-- @include entry
-- @include holding
-- @include tell
local calls, id, inbox = KEYS[1], ARGV[2], { ARGV[8], ARGV[9] }
local fields = held_fields(inbox, calls, id)
if not fields then return 0 end
local entry = entry_of(fields)
entry.keep_origin(id)
entry.note(cjson.decode(ARGV[4]))
entry.set('reason', 'RETRIES_EXHAUSTED')
local problem = tell({ ARGV[5], ARGV[6] }, calls, entry, ARGV[3])
if problem then return problem end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[7], '*', unpack(entry.fields))
drop_held(inbox, calls, ARGV[1], id)
if entry.get('k') then redis.call('DEL', once_key(calls, entry.get('k'))) end
return 1
