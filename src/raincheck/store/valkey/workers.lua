-- The known workers. KEYS after the fixed ones: workers, workers-until. Returns {info, seen, until, ...}.
local reply = {}
local found = call('ZRANGE', KEYS[FIXED + 2], 0, -1, 'WITHSCORES')
for i = 1, #found, 2 do
  local info = cmsgpack.unpack(call('HGET', KEYS[FIXED + 1], found[i]))
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3] = info[1], num(info[2]), found[i + 1]
end
return reply
