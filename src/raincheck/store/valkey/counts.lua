-- Sizes of what is kept. Returns {leases, jobs of each state..., those of them with a lease..., function, places,
-- function, places, ...}.
local answer, doing = {call('ZCARD', UNTIL)}, {}
for state = STATE, FIXED do
  answer[#answer + 1] = call('ZCARD', KEYS[state])
  doing[state] = 0
end
for _, id in ipairs(call('HKEYS', LEASES)) do -- no more than are being run
  local _, state = header(call('HGET', JOBS, id))
  doing[STATE + state] = doing[STATE + state] + 1
end
for state = STATE, FIXED do answer[#answer + 1] = doing[state] end
for _, word in ipairs(call('HGETALL', QUEUED)) do answer[#answer + 1] = word end
return answer
