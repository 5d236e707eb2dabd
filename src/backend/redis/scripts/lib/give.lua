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
