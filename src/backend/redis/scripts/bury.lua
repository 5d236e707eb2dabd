-- Gives a call up whose handler failed for the last time: to the dead letters, and its caller is told.
-- KEYS: 1 calls, 2 dead letters
-- ARGV: 1 group, 2 entry id, 3 reply, 4 the failure as JSON, 5 reply stream before the process, 6 and after it,
--       7 length that it may have, 8 length that the dead letters may have
-- Answer: 1, or 0 when the call was not owned
-- @include entry
-- @include tell
local calls, id = KEYS[1], ARGV[2]
local found = redis.call('XRANGE', calls, id, id)[1]
redis.call('XACK', calls, ARGV[1], id)
if not found then return 0 end
redis.call('XDEL', calls, id)
local entry = entry_of(found[2])
if not entry.get('o') then entry.set('o', string.match(id, '^%d+')) end
entry.note(cjson.decode(ARGV[4]))
entry.set('reason', 'RETRIES_EXHAUSTED')
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[8], '*', unpack(entry.fields))
tell({ ARGV[5], ARGV[6], ARGV[7] }, calls, entry, ARGV[3])
if entry.get('k') then redis.call('DEL', once_key(calls, entry.get('k'))) end
return 1
