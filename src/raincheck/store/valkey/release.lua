-- Gives steps back to where they were claimed from. ARGV: bell channel, then id, step, token of each.
-- The keys of their queues stand in the leases: they are of this shard. Returns the functions.
local functions, seen = {}, {}
for i = 2, #ARGV, 3 do
  local id, step = ARGV[i], tonumber(ARGV[i + 1])
  local leases = leases_of(id)
  local lease = leases[step]
  if lease and lease[1] == tonumber(ARGV[i + 2]) then
    call('ZADD', lease[4], lease[7], lease[6])
    count(lease[8], 1)
    leases[step] = nil
    keep_leases(id, leases)
    call('ZREM', UNTIL, field(id, step))
    call('HDEL', PROGRESS, field(id, step))
    if not seen[lease[8]] then seen[lease[8]] = true functions[#functions + 1] = lease[8] end
  end
end
if #functions > 0 then call('PUBLISH', ARGV[1], cmsgpack.pack({functions, {}, false, ''})) end
return functions
