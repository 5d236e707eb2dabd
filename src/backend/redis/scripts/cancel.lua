-- Cancels a call: out of the stream when nobody has it yet, else its worker is told.
-- KEYS: 1 calls
-- ARGV: 1 group, 2 entry id, 3 callId, 4 control channel's head, 5 function id
-- Answer: 'removed', 'running' or 'unknown'
local ok, pending = pcall(redis.call, 'XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)
if ok and #pending == 1 then
  -- pcall: a user that may not publish still gets the rest, and readers poll.
  redis.pcall('PUBLISH', ARGV[4] .. pending[1][2],
    cjson.encode({
      pattern = 'control',
      data = { type = 'cancel', callId = ARGV[3], entryId = ARGV[2], functionId = ARGV[5] },
    }))
  return 'running'
end
if redis.call('XDEL', KEYS[1], ARGV[2]) == 1 then return 'removed' end
return 'unknown'
