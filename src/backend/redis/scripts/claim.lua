-- Notes in a group that was made anew what a consumer runs.
-- KEYS: 1 calls
-- ARGV: 1 group, 2 consumer, then entry ids
-- Answer: how many were nobody's, and are its own now
local claimed = 0
for at = 3, #ARGV do
  local id = ARGV[at]
  local ok, pending = pcall(redis.call, 'XPENDING', KEYS[1], ARGV[1], id, id, 1)
  if ok and #pending == 0 and #redis.call('XRANGE', KEYS[1], id, id) == 1 then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'FORCE', 'JUSTID')
    claimed = claimed + 1
  end
end
return claimed
