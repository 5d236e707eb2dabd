-- Gives an office back.
-- KEYS: 1 supervisor, 2 deputy
-- ARGV: 1 sessionId
-- Answer: 1 when this session held one
local held = 0
for i = 1, 2 do
  -- pcall: somebody may have broken the other one.
  if redis.pcall('GET', KEYS[i]) == ARGV[1] then held = redis.call('DEL', KEYS[i]) end
end
return held
