-- What a claim may get here, so that it can be shared out over the shards. KEYS after the fixed ones: ready and later
-- of each function. ARGV: limit, functions. Returns for each: {served, next due or '', members...}.
local time, limit = now(), tonumber(ARGV[1])
local answers = {}
for f = 2, #ARGV do
  local ready, later = KEYS[FIXED + 2 * f - 3], KEYS[FIXED + 2 * f - 2]
  local answer = {call('HGET', SERVED, ARGV[f]) or '0', ''}
  if call('HEXISTS', QUEUED, ARGV[f]) == 1 then
    promote(ready, later, time, limit)
    answer[2] = call('ZRANGE', later, 0, 0, 'WITHSCORES')[2] or ''
    for _, member in ipairs(call('ZRANGE', ready, 0, limit - 1)) do answer[#answer + 1] = member end
  end
  answers[#answers + 1] = answer
end
return answers
