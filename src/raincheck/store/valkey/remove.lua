-- Removes ended jobs. ARGV: remember seconds, then for each: id, revision, number of index keys, their numbers in KEYS.
-- Returns how many. What is no longer at that revision stays.
local time = now()
local removed, i = 0, 2
while i <= #ARGV do
  local id, rev, indexes = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local value = call('HGET', JOBS, id)
  local was, state = 0, 0
  if value then was, state = header(value) end
  if value and was == rev and state >= ENDED_FROM then
    call('HDEL', JOBS, id)
    call('ZREM', ALL, id)
    call('ZREM', PRUNE, id)
    call('ZREM', KEYS[STATE + state], id)
    for k = i + 3, i + 2 + indexes do call('ZREM', KEYS[tonumber(ARGV[k])], id) end
    call('ZADD', GONE, string.format('%.6f', time + tonumber(ARGV[1])), id)
    removed = removed + 1
  end
  i = i + 3 + indexes
end
return removed
