-- Puts a call aside whose handler failed and that is to run again: out of the stream, and back in when it is
-- due. It waits in Redis, so no worker's death loses it.
-- KEYS: 1 calls, 2 delayed, 3 aside, 4 delayed functions
-- ARGV: 1 group, 2 entry id, 3 delay in milliseconds, 4 the failure as JSON, 5 function id,
--       6 how many calls may be put aside, 7 inbox before the session, 8 and after it
-- Answer: 1, 0 when the call was not owned, -1 when too many are put aside
-- @include entry
-- @include holding
local calls, id, inbox = KEYS[1], ARGV[2], { ARGV[7], ARGV[8] }
local fields = held_fields(inbox, calls, id)
if not fields then return 0 end
if redis.call('HLEN', KEYS[3]) >= tonumber(ARGV[6]) then return -1 end
local entry = entry_of(fields)
entry.set('a', string.format('%d', (tonumber(entry.get('a') or '1') or 1) + 1))
entry.set('f', string.format('%d', (tonumber(entry.get('f') or '0') or 0) + 1))
entry.keep_origin(id)
entry.note(cjson.decode(ARGV[4]))
local time = redis.call('TIME')
local due = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[3]))
redis.call('HSET', KEYS[3], id, cmsgpack.pack(entry.fields))
redis.call('ZADD', KEYS[2], due, id)
redis.call('ZADD', KEYS[4], 'LT', due, ARGV[5])
drop_held(inbox, calls, ARGV[1], id)
return 1
