-- Removes ended jobs. ARGV: remember seconds, bell channel, bell message, replay (1: the same call may have been here),
-- then of each: id, revision, number of index keys, their numbers in KEYS.
-- Returns for each 1, or 0: it is no longer at that revision, or not ended, and stays.
local till, replay = num(now() + tonumber(ARGV[1])), ARGV[4] == '1'
local removed, i = {}, 5
while i <= #ARGV do
  local id, rev, indexes = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local value = call('HGET', JOBS, id)
  local was, state = 0, 0
  if value then was, state = header(value) end
  local goes = value and was == rev and state >= ENDED_FROM
  if goes then
    call('HDEL', JOBS, id)
    call('ZREM', ALL, id)
    call('ZREM', PRUNE, id)
    call('ZREM', KEYS[STATE + state], id)
    for k = i + 3, i + 2 + indexes do call('ZREM', KEYS[tonumber(ARGV[k])], id) end
    call('ZADD', GONE, till, id)
  end
  local went = replay and not value and call('ZSCORE', GONE, id)
  removed[#removed + 1] = (goes or went) and 1 or 0
  i = i + 3 + indexes
end
call('PUBLISH', ARGV[2], ARGV[3])
return removed
