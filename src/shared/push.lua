-- Puts in the own part of each account, unless a later one is there.
--
-- KEYS: the instances that live, then each account. ARGV: own id, own incarnation, then of each account the version of the part,
-- for how many ms it is kept, and the part.
-- Versions tell the order within one incarnation alone: clocks may be put back between two of them.
if not redis.call('ZSCORE', KEYS[1], ARGV[1] .. ':' .. ARGV[2]) then
  return 0
end
local incarnation = tonumber(ARGV[2])
for n = 2, #KEYS do
  local at = (n - 1) * 3
  local stored = redis.call('HGET', KEYS[n], ARGV[1])
  local is_later = true
  if stored then
    local other, version = string.match(stored, '^%[(%d+),(%d+)')
    other, version = tonumber(other), tonumber(version)
    is_later = incarnation ~= other or tonumber(ARGV[at]) > version
  end
  if is_later then
    redis.call('HSET', KEYS[n], ARGV[1], ARGV[at + 2])
  end
  redis.call('PEXPIRE', KEYS[n], ARGV[at + 1])
end
return 1
