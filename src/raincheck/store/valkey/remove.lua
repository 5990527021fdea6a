-- Removes ended jobs. ARGV: remember seconds, bell channel, bell message, replay (1: the same call may have been here),
-- then of each: id, revision, tags.
-- Returns for each 1, or 0: it is no longer at that revision, or not ended, and stays.
local till = num(now() + tonumber(ARGV[1]))
local replay = ARGV[4] == '1'
local removed = {}
for i = 5, #ARGV, 3 do
  local id, rev = ARGV[i], tonumber(ARGV[i + 1])
  local value = call('HGET', JOBS, id)
  local was, state = 0, 0
  if value then was, state = header(value) end
  local goes = value and was == rev and is_ended(state)
  if goes then
    call('HDEL', JOBS, id)
    call('ZREM', PRUNE, id)
    call('ZREM', KEYS[STATE + state], id .. ARGV[i + 2])
    call('ZADD', GONE, till, id)
  end
  removed[#removed + 1] = (goes or (replay and not value)) and 1 or 0
end
call('PUBLISH', ARGV[2], ARGV[3])
return removed
