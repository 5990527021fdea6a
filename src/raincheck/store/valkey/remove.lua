-- Removes ended jobs. KEYS after the fixed ones: the answer. ARGV: token, remember seconds, bell channel, bell message,
-- then of each: id, revision, tags.
-- Returns for each 1, or 0: it is no longer at that revision, or not ended, and stays.
local again = kept_answer()
if again then return again end
local till = num(now() + tonumber(ARGV[2]))
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
  removed[#removed + 1] = goes and 1 or 0
end
keep_answer(removed)
call('PUBLISH', ARGV[3], ARGV[4])
return removed
