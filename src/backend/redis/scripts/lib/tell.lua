-- Answers a call: its caller, or everybody who shares it by an idempotency key.
-- reply_parts: reply stream's key before the process, after it, length that it may have
local function tell_one(reply_parts, process, callId, value)
  -- pcall: a stream that cannot be written costs nobody else an answer. No stream: the caller is gone.
  local key = reply_parts[1] .. process .. reply_parts[2]
  return redis.pcall('XADD', key, 'NOMKSTREAM', 'MAXLEN', '~', reply_parts[3], '*', callId, value)
end

local function once_key(calls, name)
  return string.sub(calls, 1, -6) .. 'once:' .. name
end

local function tell(reply_parts, calls, entry, value)
  local name, callId, process = entry.get('k'), entry.get('i'), entry.get('r')
  local told = false
  if name then
    local flat = redis.call('HGETALL', once_key(calls, name))
    for i = 1, #flat, 2 do
      local sharer = string.match(flat[i], '^w:(.*)$')
      if sharer then
        tell_one(reply_parts, flat[i + 1], sharer, value)
        if sharer == callId then told = true end
      end
    end
  end
  if not told and callId and process and process ~= '' then tell_one(reply_parts, process, callId, value) end
end
