-- Notes progress on a lease. ARGV: progress, id, step, token; no id: the id of no job. Returns 1, or 0: lost.
if not ARGV[2] or not held(ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])) then return 0 end
call('HSET', PROGRESS, field(ARGV[2], tonumber(ARGV[3])), ARGV[1])
return 1
