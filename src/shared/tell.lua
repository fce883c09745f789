-- Tells a deed to all instances. KEYS: the deeds, the last one. ARGV: own id, how many deeds are
-- kept, the deed.
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'o', ARGV[1], 'd', ARGV[3])
redis.call('SET', KEYS[2], id)
return id
