-- Answers a call: its caller, or everybody who shares it by an idempotency key.
-- reply_parts: reply stream's key before the process, and after it
local function tell_one(reply_parts, process, callId, value)
  -- pcall: a stream that cannot be written costs nobody else an answer. No stream: the caller is gone.
  local key = reply_parts[1] .. process .. reply_parts[2]
  return redis.pcall('XADD', key, 'NOMKSTREAM', '*', 'r', callId .. '\t' .. value)
end

local function once_key(calls, name)
  return string.sub(calls, 1, -6) .. 'once:' .. name
end

-- `cap`: for progress, the length from which on a reply stream takes no more.
-- The result: why it could not be written, if Redis may let it in later; else nothing.
local function tell(reply_parts, calls, entry, value, cap)
  local name, callId, process = entry.get('k'), entry.callId, entry.process
  local told, problem = false, nil
  local function to(address, id)
    if cap then
      local length = redis.pcall('XLEN', reply_parts[1] .. address .. reply_parts[2])
      if type(length) ~= 'number' or length >= cap then return end
    end
    local added = tell_one(reply_parts, address, id, value)
    if type(added) == 'table' and added.err and not string.find(added.err, 'WRONGTYPE', 1, true) then
      problem = added.err
    end
  end
  if name then
    local flat = redis.call('HGETALL', once_key(calls, name))
    for i = 1, #flat, 2 do
      local sharer = string.match(flat[i], '^w:(.*)$')
      if sharer then
        to(flat[i + 1], sharer)
        if sharer == callId then told = true end
      end
    end
  end
  if not told and callId and process and process ~= '' then to(process, callId) end
  return problem
end
