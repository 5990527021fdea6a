-- Sizes of what is kept. Returns {leases, jobs of each state..., function, places, function, places, ...}.
local answer = {call('ZCARD', UNTIL)}
for state = 0, FIXED - STATE do answer[#answer + 1] = call('ZCARD', KEYS[STATE + state]) end
for _, word in ipairs(call('HGETALL', QUEUED)) do answer[#answer + 1] = word end
return answer
