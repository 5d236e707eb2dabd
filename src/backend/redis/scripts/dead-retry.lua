-- Puts a dead letter back among the calls, as if it were new; nobody waits for its answer.
-- KEYS: 1 dead letters, 2 calls
-- ARGV: 1 id of the dead letter, 2 time to live in milliseconds or '' for what it had
-- Answer: its new entry id, or nothing when there is no such dead letter
-- @include entry
-- @include ring
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not found then return false end
local old, fields = entry_of(found[2]), {}
for _, name in ipairs({ 'v', 'i', 't', 'p', 'm', 'h' }) do
  local value = old.get(name)
  if name == 't' and ARGV[2] ~= '' then value = ARGV[2] end
  if value then
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
end
fields[#fields + 1] = 'r'
fields[#fields + 1] = ''
local id = redis.call('XADD', KEYS[2], '*', unpack(fields))
redis.call('XDEL', KEYS[1], ARGV[1])
ring(KEYS[2], string.match(id, '^%d+'))
return id
