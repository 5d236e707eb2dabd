-- Lets go of calls that a consumer holds. Each goes back to its stream under a new entry id (so the old
-- owner's settle finds nothing), is answered, or is given up; the consumer is removed only when it holds
-- nothing: DELCONSUMER would destroy what is pending.
-- KEYS: 1 calls, 2 dead letters
-- ARGV: 1 group, 2 consumer, 3 'lost' or 'handed-back', 4 maxDeliveries, 5 reply stream before the process,
--       6 and after it, 7 length that a reply stream may have, 8 length that the dead letters may have,
--       9 how many calls at the most, 10 function's name for texts,
--       then for 'handed-back' per call: entry id, 1 or 0 (its handler had started)
-- Answer: { requeued, answered, dead-lettered, 1 when more are left }
local calls, dead, group, consumer, mode = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
if redis.call('EXISTS', calls) == 0 then return { 0, 0, 0, 0 } end
local limit = tonumber(ARGV[9])
local requeued, answered, buried = 0, 0, 0

local function reply(process, callId, value)
  redis.pcall('XADD', ARGV[5] .. process .. ARGV[6], 'NOMKSTREAM', 'MAXLEN', '~', ARGV[7], '*', callId, value)
end

local function failure(code, message, details)
  return cjson.encode({ k = 'e', o = 1, e = { code = code, message = message, details = details, retryable = false } })
end

local function let_go(id, started)
  local entry = redis.call('XRANGE', calls, id, id)[1]
  if redis.call('XACK', calls, group, id) == 0 then return end
  if not entry then return end
  redis.call('XDEL', calls, id)
  local fields, position = entry[2], {}
  for i = 1, #fields, 2 do position[fields[i]] = i + 1 end
  local function get(name)
    return position[name] and fields[position[name]]
  end
  local callId, process = get('i'), get('r')
  local attempt = tonumber(get('a') or '1') or 1
  if get('m') and started then
    answered = answered + 1
    if callId and process then
      reply(process, callId, failure('WORKER_LOST',
        'The worker that ran ' .. ARGV[10] .. ' was lost, and delivery at-most-once forbids running it again.',
        { attempt = attempt, reason = mode }))
    end
    return
  end
  if mode == 'lost' then
    if attempt >= tonumber(ARGV[4]) then
      buried = buried + 1
      fields[#fields + 1] = 'reason'
      fields[#fields + 1] = 'MAX_DELIVERIES'
      redis.call('XADD', dead, 'MAXLEN', '~', ARGV[8], '*', unpack(fields))
      if callId and process then
        reply(process, callId, failure('MAX_DELIVERIES',
          ARGV[10] .. ' lost its worker ' .. attempt .. ' times and was moved to the dead letters. Look for what ' ..
          'its handler does to its process; maxDeliveries sets the bound.',
          { attempts = attempt }))
      end
      return
    end
    attempt = attempt + 1
  end
  local function set(name, value)
    if position[name] then
      fields[position[name]] = value
    else
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  set('a', string.format('%d', attempt))
  if not get('o') then set('o', string.match(id, '^%d+')) end
  local moved = redis.call('XADD', calls, '*', unpack(fields))
  requeued = requeued + 1
  if callId and process then reply(process, callId, cjson.encode({ k = 'm', d = moved })) end
end

if mode == 'lost' then
  local ok, pending = pcall(redis.call, 'XPENDING', calls, group, '-', '+', limit, consumer)
  if not ok then return { 0, 0, 0, 0 } end
  for i = 1, #pending do let_go(pending[i][1], true) end
  if #pending == limit then return { requeued, answered, buried, 1 } end
else
  for at = 11, #ARGV, 2 do let_go(ARGV[at], ARGV[at + 1] == '1') end
end
local ok, left = pcall(redis.call, 'XPENDING', calls, group, '-', '+', 1, consumer)
if ok and #left == 0 then redis.call('XGROUP', 'DELCONSUMER', calls, group, consumer) end
return { requeued, answered, buried, 0 }
