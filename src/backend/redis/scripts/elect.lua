-- Takes or keeps an office. A supervisor whose presence is missing is dead, and is not waited for.
-- KEYS: 1 supervisor, 2 deputy, 3 processes
-- ARGV: 1 sessionId, 2 leaseMs of the supervisor, 3 control channel's head, 4 leaseMs of the deputy
-- Answer: 2 as supervisor, 1 as deputy, 0 as neither
local function is_dead(holder)
  return redis.call('HGET', KEYS[3], holder) == 'present'
    and tonumber(redis.call('PUBSUB', 'NUMSUB', ARGV[3] .. holder)[2]) == 0
end

-- An office without an end was not taken by this script, and would be held for ever.
local function holder_of(office)
  local holder = redis.call('GET', office)
  return holder and redis.call('PTTL', office) ~= -1 and holder
end

local holder = holder_of(KEYS[1])
if not holder or holder == ARGV[1] or is_dead(holder) then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  -- pcall: a deputy's key that somebody broke keeps nobody from supervising.
  if redis.pcall('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
  return 2
end
local deputy = holder_of(KEYS[2])
if not deputy or deputy == ARGV[1] then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[4])
  return 1
end
return 0
