-- Forgets what has run out: ids of pruned jobs, idempotency keys, turns of functions without jobs, workers.
-- KEYS after the fixed ones: workers, workers-until, in the shard that has them. ARGV: limit, seconds for which a silent worker is shown.
local time, limit = now(), tonumber(ARGV[1])
local workers, workers_until = KEYS[FIXED + 1], KEYS[FIXED + 2]

local function drain(times, from, till, hash)
  for _, name in ipairs(call('ZRANGEBYSCORE', times, from, num(till), 'LIMIT', 0, limit)) do
    call('ZREM', times, name)
    if hash then call('HDEL', hash, name) end
  end
end

drain(GONE, num(-time), time) -- void ids have their time as a negative number
drain(IDEM_UNTIL, '-inf', time, IDEM)
if workers then drain(workers_until, '-inf', time - tonumber(ARGV[2]), workers) end
for _, name in ipairs(call('HKEYS', SERVED)) do
  if call('HEXISTS', QUEUED, name) == 0 then call('HDEL', SERVED, name) end
end
return 0
