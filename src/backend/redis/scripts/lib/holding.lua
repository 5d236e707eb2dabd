-- A call that a process has is pending in its function's stream, or lies in the inbox of the session that its id names
-- behind an '@' (give.lua).
-- inbox: the inboxes' key before the session, and after it
local function inbox_of(inbox, id)
  local field, session = string.match(id, '^([%d-]+)@(.+)$')
  if field then return inbox[1] .. session .. inbox[2], field, session end
end

-- Its fields; nothing when it is not there any more.
local function held_fields(inbox, calls, id)
  local key, field = inbox_of(inbox, id)
  if not key then
    local found = redis.call('XRANGE', calls, id, id)[1]
    return found and found[2]
  end
  local line = redis.call('HGET', key, field)
  return line and { 'c', string.sub(line, string.find(line, '\t', 1, true) + 1) }
end

-- Takes it away from who has it.
local function drop_held(inbox, calls, group, id)
  local key, field = inbox_of(inbox, id)
  if key then return redis.call('HDEL', key, field) end
  redis.call('XACK', calls, group, id)
  redis.call('XDEL', calls, id)
end
