-- Gives steps back to where they were claimed from. ARGV: bell channel, what the keys of ready places begin with, then
-- id, step, token of each. The keys of their queues are of this shard, and the server is not told of them; so KEYS end
-- with one that there never is, which keeps a cluster from running this while it moves the slot. Returns the functions.
local functions, seen = {}, {}
for i = 3, #ARGV, 3 do
  local id, step = ARGV[i], tonumber(ARGV[i + 1])
  local leases = leases_of(id)
  local at, after, token, since, place, worker, func = lease_on(leases, step)
  if token == tonumber(ARGV[i + 2]) then
    local name = field(id, step)
    local left = cut(leases, at, after)
    call('ZADD', ARGV[2] .. func, 0, place .. name)
    count(func, 1)
    if left == '' then call('HDEL', LEASES, id) else call('HSET', LEASES, id, left) end
    call('ZREM', UNTIL, name)
    call('HDEL', PROGRESS, name)
    if not seen[func] then seen[func] = true push(functions, func) end
  end
end
if #functions > 0 then call('PUBLISH', ARGV[1], cmsgpack.pack({functions, {}, ''})) end
return functions
