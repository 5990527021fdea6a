-- Gives leased steps back to their queues. ARGV: channel, prefix of the keys of ready entries, then id, step, token of each.
-- Returns the functions. The keys of the queues are not in KEYS, but in the same slot; so KEYS end with a key that never
-- exists, and a cluster does not run this script while it moves the slot.
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
