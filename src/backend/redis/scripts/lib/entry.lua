-- Fields of an entry, by name. An entry of this library has far fewer than 64 names and values; what somebody else
-- added behind them is left out, for thousands cannot be handed to a command from here, and would stop the script.
-- Its call (`encodeCall` in protocol/call.ts) is read into: ttl, sent, process, callId, at_most_once, payload; none of
-- them, when it is none.
local function entry_of(fields)
  local position = {}
  for i = #fields, 65, -1 do fields[i] = nil end
  for i = 1, #fields, 2 do position[fields[i]] = i + 1 end
  local entry = { fields = fields }
  function entry.get(name)
    return position[name] and fields[position[name]]
  end
  function entry.set(name, value)
    if not position[name] then
      fields[#fields + 1] = name
      position[name] = #fields + 1
    end
    fields[position[name]] = value
  end
  -- When its time began to run, which it keeps under every later id.
  function entry.keep_origin(id)
    if entry.get('o') then return end
    local added = string.match(id, '^%d+')
    local late = entry.sent and tonumber(added) - tonumber(entry.sent) >= 1000
    entry.set('o', late and entry.sent or added)
  end
  -- One more line in the history of its failures, of which the last ten are kept.
  function entry.note(failure)
    local ok, history = pcall(cjson.decode, entry.get('h') or '[]')
    if not ok or type(history) ~= 'table' then history = {} end
    history[#history + 1] = failure
    while #history > 10 do table.remove(history, 1) end
    -- A history that somebody else wrote may hold what cannot be written again, such as 1e400.
    local written, text = pcall(cjson.encode, history)
    entry.set('h', written and text or cjson.encode({ failure }))
  end
  local flags, ttl, sent, process, callId =
    string.match(entry.get('c') or '', '^%d(%a*) ([%d.]+) (%d*) (%S*) ([^%c]+)\t')
  if flags then
    entry.ttl, entry.process, entry.callId = ttl, process, callId
    entry.sent = sent ~= '' and sent or nil
    entry.payload = string.sub(entry.get('c'), string.find(entry.get('c'), '\t', 1, true) + 1)
    entry.at_most_once = string.find(flags, 'm', 1, true) ~= nil
  end
  return entry
end
