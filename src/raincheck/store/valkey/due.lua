-- The ids whose time has come. ARGV: which ('until', 'wake', 'prune'), limit.
-- Members of 'until' are an id and a step.
local key = ({['until'] = UNTIL, wake = WAKE, prune = PRUNE})[ARGV[1]]
return call('ZRANGEBYSCORE', key, '-inf', string.format('%.6f', now()), 'LIMIT', 0, tonumber(ARGV[2]))
