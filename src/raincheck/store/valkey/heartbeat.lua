-- Extends leases. ARGV: lease seconds, then id, step, token of each. Returns for each the revision of the job, or -1: lost.
local till = num(now() + tonumber(ARGV[1]))
local replies = {}
for i = 2, #ARGV, 3 do
  local id, step = ARGV[i], tonumber(ARGV[i + 1])
  local rev = -1
  if held(id, step, tonumber(ARGV[i + 2])) then
    call('ZADD', UNTIL, till, field(id, step))
    rev = header(call('HGET', JOBS, id))
  end
  replies[#replies + 1] = rev
end
return replies
