-- Removes ended jobs, and memories that have run out: ids of removed jobs, idempotency keys, turns of functions without
-- jobs, workers. KEYS after the fixed ones: the answer; workers, workers-until, in the shard that has them.
-- ARGV: token, remember seconds, memories of a kind to remove, seconds for which a silent worker is shown, bell channel,
-- bell message, then of each job: id, revision.
-- Returns for each job 1, or 0: it is no longer at that revision, or not ended, and stays.
local again = kept_answer()
if again then return again end
local time = now()
local till, limit = num(time + tonumber(ARGV[2])), tonumber(ARGV[3])
local workers, workers_until = KEYS[FIXED + 2], KEYS[FIXED + 3]

-- An entry among the jobs of a state is a job's id and its tags: the first one from the id on.
local function unlist(state, id)
  local entry = call('ZRANGE', state, '[' .. id, '+', 'BYLEX', 'LIMIT', 0, 1)[1]
  if entry and string.sub(entry, 1, #id) == id then call('ZREM', state, entry) end
end

local function remove_results(id)
  local steps = call('HGET', RESULTS, id)
  if not steps then return end
  local names = {id}
  for at = 1, #steps, 2 do push(names, id .. string.sub(steps, at, at + 1)) end
  write('HDEL', RESULTS, names)
end

local function remove(id, rev)
  local value = call('HGET', JOBS, id)
  if not value then return 0 end
  local was, state = header(value)
  if was ~= rev or not call('ZSCORE', PRUNE, id) then return 0 end -- ended jobs, and no others, wait there
  call('HDEL', JOBS, id)
  remove_results(id)
  call('ZREM', PRUNE, id)
  unlist(KEYS[STATE + state], id)
  call('ZADD', GONE, till, id)
  return 1
end

local function drain(times, from, last, hash)
  for _, name in ipairs(call('ZRANGEBYSCORE', times, from, num(last), 'LIMIT', 0, limit)) do
    call('ZREM', times, name)
    if hash then call('HDEL', hash, name) end
  end
end

local removed = {}
for i = 7, #ARGV, 2 do push(removed, remove(ARGV[i], tonumber(ARGV[i + 1]))) end
drain(GONE, num(-time), time) -- void ids have their time as a negative number
drain(IDEM_UNTIL, '-inf', time, IDEM)
if workers then drain(workers_until, '-inf', time - tonumber(ARGV[4]), workers) end
for _, name in ipairs(call('HKEYS', SERVED)) do
  if call('HEXISTS', QUEUED, name) == 0 then call('HDEL', SERVED, name) end
end
if #removed > 0 then
  keep_answer(removed)
  call('PUBLISH', ARGV[5], ARGV[6])
end
return removed
