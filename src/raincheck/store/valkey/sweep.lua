-- Forgets what has run out: ids of pruned jobs, idempotency keys, turns of functions without jobs, workers.
-- KEYS after the fixed ones: workers, workers-until. ARGV: limit, seconds for which a silent worker is shown.
local time, limit = now(), tonumber(ARGV[1])
local workers, workers_until = KEYS[FIXED + 1], KEYS[FIXED + 2]

local function drain(times, till, hash)
  for _, name in ipairs(call('ZRANGEBYSCORE', times, '-inf', num(till), 'LIMIT', 0, limit)) do
    call('ZREM', times, name)
    if hash then call('HDEL', hash, name) end
  end
end

drain(GONE, time)
drain(IDEM_UNTIL, time, IDEM)
drain(workers_until, time - tonumber(ARGV[2]), workers)
for _, name in ipairs(call('HKEYS', SERVED)) do
  if call('HEXISTS', QUEUED, name) == 0 then call('HDEL', SERVED, name) end
end
return 0
