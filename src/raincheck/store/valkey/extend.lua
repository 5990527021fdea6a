-- Lets leases run on. ARGV: lease seconds, then id, step, token of each. Returns the job's revision, or -1: lost.
local till = string.format('%.6f', now() + tonumber(ARGV[1]))
local answers = {}
for i = 2, #ARGV, 3 do
  local id, step = ARGV[i], tonumber(ARGV[i + 1])
  local lease = leases_of(id)[step]
  if lease and lease[1] == tonumber(ARGV[i + 2]) then
    call('ZADD', UNTIL, till, field(id, step))
    answers[#answers + 1] = header(call('HGET', JOBS, id))
  else
    answers[#answers + 1] = -1
  end
end
return answers
