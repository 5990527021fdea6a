-- Sizes of what is kept. Returns {leases, jobs of each state..., jobs with a lease of each unfinished state..., function,
-- places, function, places, ...}.
local answer = {call('ZCARD', UNTIL)}
for state = 0, FIXED - STATE do answer[#answer + 1] = call('ZCARD', KEYS[STATE + state]) end
local doing = {}
for state = 1, ENDED_FROM do doing[state] = 0 end
for _, id in ipairs(call('HKEYS', LEASES)) do
  for state = 1, ENDED_FROM do
    if call('ZSCORE', KEYS[STATE + state - 1], id) then doing[state] = doing[state] + 1 break end
  end
end
for state = 1, ENDED_FROM do answer[#answer + 1] = doing[state] end
for _, word in ipairs(call('HGETALL', QUEUED)) do answer[#answer + 1] = word end
return answer
