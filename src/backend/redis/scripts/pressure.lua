-- How many calls of a function there are, how many of them a worker has, and since when the first is there.
-- KEYS: 1 calls
-- ARGV: 1 group
-- Answer: calls, held, Redis's clock when the first was submitted ('' without any)
local calls = redis.call('XLEN', KEYS[1])
if calls == 0 then return { 0, 0, '' } end

local held = 0
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
if pending.err == nil then
  held = pending[1]
elseif not pending.err:find('NOGROUP', 1, true) then
  return pending
end

-- Its payload stays here.
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local since = first[1]:match('^%d+')
local fields = first[2]
for i = 1, #fields, 2 do
  if fields[i] == 'o' then since = fields[i + 1] end
end
return { calls, held, since }
