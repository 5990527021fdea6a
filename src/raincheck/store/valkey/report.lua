-- Notes progress on a lease. ARGV: id, step, token, progress. Returns 1, or 0: lost.
local lease = leases_of(ARGV[1])[tonumber(ARGV[2])]
if not lease or lease[1] ~= tonumber(ARGV[3]) then return 0 end
call('HSET', PROGRESS, field(ARGV[1], tonumber(ARGV[2])), ARGV[4])
return 1
