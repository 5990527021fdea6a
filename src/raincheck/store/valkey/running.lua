-- Counts the leases of each worker, reading all leases. Returns {worker, leases, worker, leases, ...}.
local running, reply = {}, {}
for _, leases in ipairs(call('HVALS', LEASES)) do
  local at = 1
  while at <= #leases do
    local step, token, since, place, worker, func, after = struct.unpack(LEASE, leases, at)
    running[worker] = (running[worker] or 0) + 1
    at = after
  end
end
for worker, count in pairs(running) do push(reply, worker, count) end
return reply
