-- Stores the progress of a lease. ARGV: progress, id, step, token. Returns {1}, or {0}: the lease was lost.
-- Without a lease (its id was invalid), returns {}.
if not ARGV[2] then return {} end
local id, step, token = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if not held(id, step, token) then return {0} end
call('HSET', PROGRESS, field(id, step), ARGV[1])
return {1}
