-- Tells a deed to all instances. KEYS: the stream, and the last deed where calls wait for such ones.
-- ARGV: own id, how many are kept, the deed.
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'o', ARGV[1], 'd', ARGV[3])
if KEYS[2] then
  redis.call('SET', KEYS[2], id)
end
return id
