-- What callers counted: `start:calls:failures` per tenth of the window, one text for each caller and one, `*`, for all.
local function slots_of(text, window)
  local slots, calls, failures = {}, 0, 0
  for start, some, failed in string.gmatch(text or '', '(%d+):(%d+):(%d+)') do
    start, some, failed = tonumber(start), tonumber(some), tonumber(failed)
    if start > now - window and start <= now then
      slots[#slots + 1] = { start, some, failed }
      calls, failures = calls + some, failures + failed
    end
  end
  return slots, calls, failures
end

-- The text with some more in it, and whether they began a new slot.
local function add_to(text, window, calls, failures)
  local slots = slots_of(text, window)
  local start = now - now % math.floor(window / 10)
  local last = slots[#slots]
  local is_new = not last or last[1] ~= start
  if is_new then
    slots[#slots + 1] = { start, calls, failures }
  else
    last[2], last[3] = last[2] + calls, last[3] + failures
  end
  local parts = {}
  for i, slot in ipairs(slots) do parts[i] = string.format('%.0f:%.0f:%.0f', slot[1], slot[2], slot[3]) end
  return table.concat(parts, ' '), is_new
end

-- Callers in the window, and those that see the failure rate; forgets the others.
local function callers_of(window, rate)
  local callers, failing = 0, 0
  local flat = redis.call('HGETALL', KEYS[2])
  for i = 1, #flat, 2 do
    if flat[i] ~= '*' and flat[i] ~= '@' then
      local _, calls, failures = slots_of(flat[i + 1], window)
      if calls == 0 then
        redis.call('HDEL', KEYS[2], flat[i])
      else
        callers = callers + 1
        if failures > 0 and failures >= rate * calls then failing = failing + 1 end
      end
    end
  end
  return callers, failing
end
