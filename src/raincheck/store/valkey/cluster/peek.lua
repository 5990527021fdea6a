-- The entries that a claim can get in this shard. KEYS after the fixed ones: ready and later of each function.
-- ARGV: limit, functions. Returns for each function {time of the last claim, next due or '', members...}.
local time, limit = now(), tonumber(ARGV[1])
local replies = {}
for f = 2, #ARGV do
  local ready, later = KEYS[FIXED + 2 * f - 3], KEYS[FIXED + 2 * f - 2]
  local reply = {call('HGET', SERVED, ARGV[f]) or '0', ''}
  if call('HEXISTS', QUEUED, ARGV[f]) == 1 then
    promote(ready, later, time, limit)
    reply[2] = call('ZRANGE', later, 0, 0, 'WITHSCORES')[2] or ''
    for _, member in ipairs(call('ZRANGE', ready, 0, limit - 1)) do reply[#reply + 1] = member end
  end
  replies[#replies + 1] = reply
end
return replies
