-- The workers known. KEYS: workers (hash), workers-until (zset). Returns {time, info, seen, until, ...}.
local t = redis.call('TIME')
local answer = {string.format('%.6f', tonumber(t[1]) + tonumber(t[2]) / 1e6)}
local found = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
for i = 1, #found, 2 do
  local packed = redis.call('HGET', KEYS[1], found[i])
  if packed then
    local info = cmsgpack.unpack(packed)
    local n = #answer
    answer[n + 1], answer[n + 2], answer[n + 3] = info[1], string.format('%.6f', info[2]), found[i + 1]
  end
end
return answer
