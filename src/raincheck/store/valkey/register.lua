-- Notes a worker, or strikes it out. KEYS: workers (hash), workers-until (zset).
-- ARGV: id, info ('' to strike out), seconds, memory seconds.
local t = redis.call('TIME')
local time = tonumber(t[1]) + tonumber(t[2]) / 1e6
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack({ARGV[2], time}))
  redis.call('ZADD', KEYS[2], string.format('%.6f', time + tonumber(ARGV[3])), ARGV[1])
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.6f', time - tonumber(ARGV[4])))) do
  redis.call('HDEL', KEYS[1], id)
  redis.call('ZREM', KEYS[2], id)
end
return 0
