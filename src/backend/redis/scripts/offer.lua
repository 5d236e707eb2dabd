-- Offers to take calls while this process waits for its pool's bell.
-- KEYS: 1 offers
-- ARGV: 1 session, 2 milliseconds that the offer lasts, 3 calls that it is for, below 1024
local time = redis.call('TIME')
local ends = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2])
return redis.call('ZADD', KEYS[1], string.format('%.4f', ends + ARGV[3] / 1024), ARGV[1])
