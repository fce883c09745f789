-- Forgets the parts of instances that are gone. KEYS: the instances that live, an account.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local parts, gone = redis.call('HGETALL', KEYS[2]), 0
for i = 1, #parts, 2 do
  local incarnation = string.match(parts[i + 1], '^%[(%d+)')
  local lease = redis.call('ZSCORE', KEYS[1], parts[i] .. ':' .. incarnation)
  if not lease or tonumber(lease) <= now then
    redis.call('HDEL', KEYS[2], parts[i])
    gone = gone + 1
  end
end
return gone
