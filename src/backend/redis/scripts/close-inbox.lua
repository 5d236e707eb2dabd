-- Closes a session's inbox: nothing is given to it any more. Its key is gone when nothing lies in it.
-- KEYS: 1 inbox
-- ARGV: 1 where to look on, '0' to begin with, 2 how many fields to look at, about
-- Answer: where to look on, or '0'; of calls that lie there: function id, field, function id, field, ...
local closed = redis.pcall('HDEL', KEYS[1], '#')
if type(closed) == 'table' then
  -- Nothing of what was given is left in a key that holds something else; what is pending is handed over all the same.
  if string.find(closed.err, 'WRONGTYPE', 1, true) then return { '0' } end
  return closed
end
local found = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local flat, answer = found[2], { found[1] }
for i = 1, #flat, 2 do
  local id = string.match(flat[i + 1], '^([^\t]*)\t')
  if id then
    answer[#answer + 1] = id
    answer[#answer + 1] = flat[i]
  end
end
return answer
