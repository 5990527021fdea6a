-- Counts. Returns {leases, jobs of each state..., jobs of each state with a lease..., function, queue entries, function,
-- queue entries, ...}.
local reply, doing = {call('ZCARD', UNTIL)}, {}
for state = STATE, FIXED do
  reply[#reply + 1] = call('ZCARD', KEYS[state])
  doing[state] = 0
end
for _, id in ipairs(call('HKEYS', LEASES)) do -- one for each running job
  local _, state = header(call('HGET', JOBS, id))
  doing[STATE + state] = doing[STATE + state] + 1
end
for state = STATE, FIXED do reply[#reply + 1] = doing[state] end
for _, word in ipairs(call('HGETALL', QUEUED)) do reply[#reply + 1] = word end
return reply
