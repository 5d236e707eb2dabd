-- Puts a dead letter back among the calls, as if it were new; nobody waits for its answer.
-- KEYS: 1 dead letters, 2 calls
-- ARGV: 1 id of the dead letter, 2 time to live in milliseconds or '' for what it had, 3 version of the entries
-- Answer: its new entry id, or nothing when there is no such dead letter
-- @include entry
-- @include ring
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not found then return false end
local old = entry_of(found[2])
local text = old.get('c') or ''
if old.callId then
  text = ARGV[3] .. (old.at_most_once and 'm ' or ' ') .. (ARGV[2] ~= '' and ARGV[2] or old.ttl) .. '   ' ..
    old.callId .. '\t' .. old.payload
end
local fields = { 'c', text }
if old.get('h') then
  fields[#fields + 1] = 'h'
  fields[#fields + 1] = old.get('h')
end
local id = redis.call('XADD', KEYS[2], '*', unpack(fields))
redis.call('XDEL', KEYS[1], ARGV[1])
ring(KEYS[2], string.match(id, '^%d+'))
return id
