-- Tells a deed to all instances, once: what one told last is told again where it did not hear the answer.
--
-- KEYS: the stream, the last deed of all, what each instance told last.
-- ARGV: own id, the number of the deed, how many are kept, the deed.
local last = redis.call('HGET', KEYS[3], ARGV[1])
if last then
  local number, id = string.match(last, '^(%S+) (%S+)$')
  if number == ARGV[2] then
    return id
  end
end
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'o', ARGV[1], 'd', ARGV[4])
redis.call('SET', KEYS[2], id)
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2] .. ' ' .. id)
return id
