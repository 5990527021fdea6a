-- Leases that have run out. ARGV: limit. Returns for each: {value, step, token, worker, since, until, progress}.
local answers = {}
for _, name in ipairs(call('ZRANGEBYSCORE', UNTIL, '-inf', num(now()), 'LIMIT', 0, tonumber(ARGV[1]))) do
  local id, step = string.sub(name, 1, 16), struct.unpack('>I2', string.sub(name, 17, 18))
  local answer = {call('HGET', JOBS, id)}
  local at, after, token, since, place, worker = lease_on(leases_of(id), step)
  append_lease(answer, id, step, token, since, worker)
  answers[#answers + 1] = answer
end
return answers
