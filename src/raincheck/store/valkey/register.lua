-- Registers a worker, or removes it. KEYS after the fixed ones: workers, workers-until.
-- ARGV: id, info ('' to remove it), seconds. A registration never gets shorter.
local time = now()
local workers, workers_until = KEYS[FIXED + 1], KEYS[FIXED + 2]
if ARGV[2] == '' then
  call('HDEL', workers, ARGV[1])
  call('ZREM', workers_until, ARGV[1])
else
  call('HSET', workers, ARGV[1], cmsgpack.pack({ARGV[2], time}))
  call('ZADD', workers_until, 'GT', num(time + tonumber(ARGV[3])), ARGV[1])
end
return 0
