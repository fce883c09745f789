-- Gives records to the other instances, and remembers up to where.
--
-- KEYS: the records, up to where each instance gave, up to where each took.
-- ARGV: own id, how many records are kept, up to where own ones are given now, then each record.
for n = 4, #ARGV do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'o', ARGV[1], 'r', ARGV[n])
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
return #ARGV - 3
