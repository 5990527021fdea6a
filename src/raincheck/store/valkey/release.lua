-- Gives steps back to where they were claimed from. ARGV: bell channel, then id, step, token of each.
-- The keys of their queues stand in the leases: they are of this shard, and the server is not told of them; so KEYS end
-- with one that there never is, which keeps a cluster from running this while it moves the slot. Returns the functions.
local functions, seen = {}, {}
for i = 2, #ARGV, 3 do
  local id, step = ARGV[i], tonumber(ARGV[i + 1])
  local lease, leases = held(id, step, tonumber(ARGV[i + 2]))
  if lease then
    local func = lease[6]
    call('ZADD', lease[4], 0, lease[5])
    count(func, 1)
    unlease(leases, id, step)
    keep_leases(id, leases)
    if not seen[func] then seen[func] = true functions[#functions + 1] = func end
  end
end
if #functions > 0 then call('PUBLISH', ARGV[1], cmsgpack.pack({functions, {}, ''})) end
return functions
