-- The work of maintenance. KEYS after the fixed ones: schedules, schedules-due, in the first shard.
-- ARGV: limit. Returns {lost, alarmed, ended, schedules}, each of {time, entry, time, entry, ...} by time:
-- a lost lease is {id, value or '' after the first lease of a job, step, token, worker, since, until, progress};
-- an overdue job is {value, step, token, worker, since, until, progress, ...};
-- an ended job is {id, revision}; a schedule is its value.
local time, limit = num(now()), tonumber(ARGV[1])
local schedules, schedules_due = KEYS[FIXED + 1], KEYS[FIXED + 2]
local lost, alarmed, ended, fired, seen = {}, {}, {}, {}, {}

local function overdue(key) return call('ZRANGEBYSCORE', key, '-inf', time, 'WITHSCORES', 'LIMIT', 0, limit) end

local found = overdue(UNTIL)
for i = 1, #found, 2 do
  local id, step = string.sub(found[i], 1, 16), struct.unpack('>I2', string.sub(found[i], 17, 18))
  local entry = {id, seen[id] and '' or call('HGET', JOBS, id)}
  local at, after, token, since, place, worker = lease_on(leases_of(id), step)
  append_lease(entry, id, step, token, since, worker)
  seen[id] = true
  push(lost, found[i + 1], entry)
end

found = overdue(WAKE)
for i = 1, #found, 2 do push(alarmed, found[i + 1], with_leases(found[i], call('HGET', JOBS, found[i]))) end

found = overdue(PRUNE)
for i = 1, #found, 2 do
  local rev = header(call('HGET', JOBS, found[i]))
  push(ended, found[i + 1], {found[i], rev})
end

if schedules then
  found = overdue(schedules_due)
  for i = 1, #found, 2 do push(fired, found[i + 1], call('HGET', schedules, found[i])) end
end
return {lost, alarmed, ended, fired}
