-- Forgets what has run out: ids of pruned jobs, idempotency keys. ARGV: limit.
local time, limit = string.format('%.6f', now()), tonumber(ARGV[1])
for _, id in ipairs(call('ZRANGEBYSCORE', GONE, '-inf', time, 'LIMIT', 0, limit)) do call('ZREM', GONE, id) end
for _, key in ipairs(call('ZRANGEBYSCORE', IDEM_UNTIL, '-inf', time, 'LIMIT', 0, limit)) do
  call('ZREM', IDEM_UNTIL, key)
  call('HDEL', IDEM, key)
end
return 0
