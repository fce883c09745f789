-- Says that this instance lives, and who else does.
--
-- KEYS: the instances that live, what is known of each, the last deed, the mark of the secret, the
-- name of this memory, which is another one after all was lost.
-- ARGV: own id, own incarnation, the lease in us (0: it leaves), the memory that has all it knows,
-- what people should know of it, the mark of the secret.
-- What is known of one: incarnation, end of its lease, when Redis had all it knows, when it was seen
-- last, and the rest for people.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local me, own = ARGV[1], ARGV[1] .. ':' .. ARGV[2]
local FORGET = 86400000000

local function text(number)
  return string.format('%.0f', number)
end

local mark = redis.call('GET', KEYS[4])
if mark and mark ~= ARGV[6] then
  -- Where nobody lives the secret may be another one from now on.
  if redis.call('ZCOUNT', KEYS[1], '(' .. text(now), '+inf') > 0 then
    return {'secret', '', '', '', {}}
  end
  mark = nil
end
if not mark then
  redis.call('SET', KEYS[4], ARGV[6])
end

local before = redis.call('HGET', KEYS[2], me)
if before then
  local incarnation, lease = string.match(before, '^(%d+) (%d+)')
  if tonumber(incarnation) > tonumber(ARGV[2]) and tonumber(lease) > now then
    return {'twice', '', '', '', {}}
  end
  if incarnation ~= ARGV[2] then
    redis.call('ZREM', KEYS[1], me .. ':' .. incarnation)
  end
end

local memory = redis.call('GET', KEYS[5])
if not memory then
  memory = own .. ':' .. text(now)
  redis.call('SET', KEYS[5], memory)
end

local lease = tonumber(ARGV[3])
if lease > 0 then
  redis.call('ZADD', KEYS[1], text(now + lease), own)
else
  redis.call('ZREM', KEYS[1], own)
end
local synced = ARGV[4] == memory and now or 0
local ends = lease > 0 and now + lease or 0
redis.call('HSET', KEYS[2], me, table.concat({ARGV[2], text(ends), text(synced), text(now), ARGV[5]}, ' '))
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  local seen = string.match(all[i + 1], '^%d+ %d+ %d+ (%d+)')
  if tonumber(seen) < now - FORGET then
    redis.call('HDEL', KEYS[2], all[i])
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now - FORGET))
return {mark and 'known' or 'new', text(now), redis.call('GET', KEYS[3]) or '', memory, all}
