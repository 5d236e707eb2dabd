-- A worker's record; nothing for what cannot be one. Counting on from a number without an end (1e400 is JSON) would
-- stop a script for ever: it cannot be written as JSON again.
local function is_count(value)
  return type(value) == 'number' and value >= 0 and value < 9007199254740991
end

local function record_of(text)
  local ok, record = pcall(cjson.decode, text)
  if ok and type(record) == 'table' and is_count(record.epoch) and is_count(record.seq) then return record end
end
