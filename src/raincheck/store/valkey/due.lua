-- The ids whose time has come, with when it came. ARGV: wake or prune, limit.
local key = ARGV[1] == 'wake' and WAKE or PRUNE
return call('ZRANGEBYSCORE', key, '-inf', num(now()), 'WITHSCORES', 'LIMIT', 0, tonumber(ARGV[2]))
