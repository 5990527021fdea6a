-- Removes ended jobs, and what has expired: ids of removed jobs, idempotency keys, claim times of functions without queue
-- entries, workers. KEYS after the fixed ones: recorded reply, journals; workers, workers-until, in the first shard.
-- ARGV: token, seconds to remember ids, expired entries of a kind to remove, seconds for which a silent worker is listed,
-- channel, hint, then for each job: id, revision.
-- Returns for each job 1, or 0: it is at another revision or has not ended, and was not removed.
local recorded = recorded_reply()
if recorded then return recorded end
local time = now()
local till, limit = num(time + tonumber(ARGV[2])), tonumber(ARGV[3])
local journals, workers, workers_until = KEYS[FIXED + 2], KEYS[FIXED + 3], KEYS[FIXED + 4]
local has_journals = call('EXISTS', journals) == 1

-- The entry of a job in the set of its state is its id and its tags: the first one from the id on.
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
  if was ~= rev or not call('ZSCORE', PRUNE, id) then return 0 end -- only ended jobs are there
  call('HDEL', JOBS, id)
  remove_results(id)
  if has_journals then call('ZREMRANGEBYLEX', journals, '[' .. id .. ENTRIES, '(' .. id .. SERIES_END) end
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
drain(GONE, num(-time), time) -- the time of a void id is negative
drain(IDEM_UNTIL, '-inf', time, IDEM)
if workers then drain(workers_until, '-inf', time - tonumber(ARGV[4]), workers) end
for _, name in ipairs(call('HKEYS', SERVED)) do
  if call('HEXISTS', QUEUED, name) == 0 then call('HDEL', SERVED, name) end
end
if #removed > 0 then
  record_reply(removed)
  call('PUBLISH', ARGV[5], ARGV[6])
end
return removed
