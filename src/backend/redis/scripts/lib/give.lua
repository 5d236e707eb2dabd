-- Gives new calls to a process that waits for its pool's bell and offered to take some: they are delivered to it and
-- reach it at once, while a bell makes it ask for them first. Whoever may not deliver (its user cannot read calls) rings.
-- An offer: the process's session in the pool's sorted set; the whole part of its score is when the offer ends on
-- Redis's clock, its fraction how many calls it is for, in 1024ths. Once something was given the offer is gone.
local takers, may_give = {}, true
local function taker_from(pool, session, score)
  local places = math.floor(score % 1 * 1024 + 0.5)
  return { session = session, places = places, offers = pool .. ':offers', told = {} }
end

-- A session's own offer, if it has one that holds.
local function offer_of(pool, session, now)
  if type(pool) ~= 'string' or type(session) ~= 'string' then return nil end
  local score = redis.pcall('ZSCORE', pool .. ':offers', session)
  score = type(score) == 'string' and tonumber(score)
  local taker = score and score >= now and taker_from(pool, session, score)
  return taker and taker.places > 0 and taker or nil
end

local function taker_of(pool, now)
  if takers[pool] ~= nil then return takers[pool] end
  local offers, taker = pool .. ':offers', false
  repeat
    local first = redis.pcall('ZRANGE', offers, 0, 0, 'WITHSCORES')
    if first.err then may_give = false end
    local score = not first.err and tonumber(first[2])
    if score and score >= now then
      taker = taker_from(pool, first[1], score)
    elseif score and redis.pcall('ZREM', offers, first[1]) ~= 1 then
      -- Who may not take away what has ended would look at it for ever.
      may_give, score = false, nil
    end
  until taker or not score
  takers[pool] = taker
  return taker
end

-- Whether all of the calls, which were just added, are given to this taker. Of a function from which something else was
-- delivered instead (calls that nobody was told of) the process is told which, and looks at them; so it does without texts.
local function give_to(taker, group, calls, ids, texts)
  local count = math.min(#ids, taker.places)
  local found = count > 0
    and redis.pcall('XREADGROUP', 'GROUP', group, taker.session, 'COUNT', count, 'STREAMS', calls, '>')
  if not found then return false end
  if found.err then
    -- What else can be wrong with a stream that was just written is that this user may not read it.
    may_give = string.find(found.err, 'NOGROUP', 1, true) ~= nil
    return false
  end
  local entries = found[1][2]
  taker.places = taker.places - #entries
  local as_added = #entries == count and entries[1][1] == ids[1] and entries[count][1] == ids[count]
  local id = string.match(calls, '.*{(.*)}:calls$')
  for n = 1, #entries do
    taker.told[#taker.told + 1] = id .. '\t' .. entries[n][1] .. (as_added and texts and '\t' .. texts[n] or '')
  end
  return as_added and count == #ids
end

-- Whether all of the calls are given to whoever of these pools offers first.
local function give(group, calls, ids, texts, pools)
  local now = tonumber((string.match(ids[#ids], '^%d+')))
  for i = 1, #pools do
    local taker = may_give and taker_of(pools[i], now)
    if taker and taker.places > 0 then return give_to(taker, group, calls, ids, texts) end
  end
  return false
end

-- Pools that host all of these functions, if any.
local function shared_pools(streams)
  local bells = {}
  for k = 1, #streams do bells[k] = string.sub(streams[k], 1, -6) .. 'bells' end
  local pools = redis.pcall('SINTER', unpack(bells))
  -- A user that may not ask gives nothing over this connection; what one key is, if no set, is that function's trouble.
  if pools.err and not string.find(pools.err, 'WRONGTYPE', 1, true) then may_give = false end
  return #pools > 0 and pools or false
end

-- Gives one new call of each of these functions to this taker, with one read of all their streams; those that did not go.
local function give_alike(taker, group, streams, ids, texts, count)
  local rest, words = {}, { 'XREADGROUP', 'GROUP', group, taker.session, 'COUNT', '1', 'STREAMS' }
  for n = 1, count do
    words[7 + n] = streams[n]
    words[7 + count + n] = '>'
  end
  local found = redis.pcall(unpack(words)) or {}
  if found.err then
    -- The group of one is gone, and nothing was read: each by itself. Else this user may not.
    may_give = string.find(found.err, 'NOGROUP', 1, true) ~= nil
    for n = 1, count do
      local given = may_give and give_to(taker, group, streams[n], { ids[n] }, { texts[n] })
      if not given then rest[#rest + 1] = n end
    end
    return rest
  end
  -- All functions' keys begin alike.
  local told, at, head = taker.told, 1, #string.match(streams[1], '.*{') + 1
  for n = 1, count do
    local one = found[at]
    if one and one[1] == streams[n] then
      local id, line = one[2][1][1], string.sub(streams[n], head, -8)
      at = at + 1
      taker.places = taker.places - 1
      if id == ids[n] then
        told[#told + 1] = line .. '\t' .. id .. '\t' .. texts[n]
      else
        told[#told + 1] = line .. '\t' .. id
        rest[#rest + 1] = n
      end
    else
      rest[#rest + 1] = n
    end
  end
  return rest
end

-- Gives new calls of different functions, one of each, to whoever of the pools that host all of them offers first, and
-- what is too many for it to others that offer. The numbers of those that are not given.
local function give_each(group, streams, ids, texts, pools)
  local now, taker = #ids > 0 and tonumber((string.match(ids[#ids], '^%d+'))), nil
  for i = 1, now and #pools or 0 do
    local one = may_give and taker_of(pools[i], now)
    if one and one.places > 0 then
      taker = one
      break
    end
  end
  local count = taker and math.min(#ids, taker.places) or 0
  local rest = count > 0 and give_alike(taker, group, streams, ids, texts, count) or {}
  for n = count + 1, #ids do
    local given = taker and give(group, streams[n], { ids[n] }, { texts[n] }, pools)
    if not given then rest[#rest + 1] = n end
  end
  return rest
end

local function tell_taker(taker, before, after)
  if #taker.told == 0 then return end
  redis.call('ZREM', taker.offers, taker.session)
  redis.call('RPUSH', before .. taker.session .. after, table.concat(taker.told, '\n'))
end

local function tell_takers(before, after)
  for _, taker in pairs(takers) do
    if taker then tell_taker(taker, before, after) end
  end
end
