-- Removes ended jobs. ARGV: remember seconds, bell channel, bell message, then of each: id, revision, number of index
-- keys, their numbers in KEYS. Returns for each 1, or 0: it is no longer at that revision, or not ended, and stays.
local till = num(now() + tonumber(ARGV[1]))
local removed, i = {}, 4
while i <= #ARGV do
  local id, rev, indexes = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local value = call('HGET', JOBS, id)
  local was, state = 0, 0
  if value then was, state = header(value) end
  local goes = value and was == rev and is_ended(state)
  if goes then
    call('HDEL', JOBS, id)
    call('ZREM', ALL, id)
    call('ZREM', PRUNE, id)
    call('ZREM', KEYS[STATE + state], id)
    for k = i + 3, i + 2 + indexes do call('ZREM', KEYS[tonumber(ARGV[k])], id) end
    call('ZADD', GONE, till, id)
  end
  removed[#removed + 1] = goes and 1 or 0
  i = i + 3 + indexes
end
call('PUBLISH', ARGV[2], ARGV[3])
return removed
