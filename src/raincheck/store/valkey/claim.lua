-- Moves ready queue entries into leases of a worker: the highest priority of all functions first; of equal priority a share
-- for each function, first the one served longest ago.
-- KEYS after the fixed ones: recorded reply, then ready and later of each function.
-- ARGV: token, worker, limit, lease seconds, shards, shard, expiry time of this call, then for each function its name and
-- the most entries to take of it.
-- Returns {next due or ''}, or {'', {value, value, ...}, {number of the value, step, token, ...}, since, until}, or {} if
-- the call has expired.
local time = now()
local worker, limit, seconds = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local shards, shard = tonumber(ARGV[5]), tonumber(ARGV[6])
local FIRST, NAME = FIXED + 2, 8
local GIVEN = '>c16I2I8'
local got, waiting = {}, {}

-- Numbers the ids in the reply: a job can have many steps, and is returned once.
local function number(id, ids, numbers)
  if not numbers[id] then
    push(ids, id)
    numbers[id] = #ids
  end
end

-- The reply of an earlier call with this token: the leases that are still in force.
local function repeat_reply(given, since, till)
  local ids, numbers, rows, at = {}, {}, {}, 1
  while at <= #given do
    local id, step, token, after = struct.unpack(GIVEN, given, at)
    if held(id, step, token) then
      number(id, ids, numbers)
      push(rows, numbers[id], step)
      push(rows, token)
    end
    at = after
  end
  return {'', read('HMGET', JOBS, ids), rows, since, till}
end

if time > tonumber(ARGV[7]) then return {} end -- read late from the socket of a hanging server: no caller waits
local recorded = recorded_reply()
if recorded then return repeat_reply(recorded[1], recorded[2], recorded[3]) end

local function next_due()
  local due = nil
  for f = NAME, #ARGV, 2 do
    local first = call('ZRANGE', KEYS[FIRST + f - NAME + 1], 0, 0, 'WITHSCORES')
    if first[2] and (not due or tonumber(first[2]) < due) then due = tonumber(first[2]) end
  end
  return due and num(due) or ''
end

local function pop(w, room)
  local popped = call('ZPOPMIN', KEYS[w.key], room)
  for i = 1, #popped, 2 do got[#got + 1] = {popped[i], w} end
  local n = #popped / 2
  if n > 0 then
    count(w.name, -n)
    call('HSET', SERVED, w.name, time)
  end
  w.left = w.left - n
  return n
end

-- Notes the priority of the first ready entry, negated; false: nothing is ready. At least `sure` entries have it.
local function look(w)
  local first = call('ZRANGE', KEYS[w.key], 0, 0)[1]
  if not first then return false end
  local high, low = struct.unpack('>I4I4', first)
  w.priority = (high - 2 ^ 31) * 2 ^ 32 + low
  w.last = '[' .. string.sub(first, 1, 8) .. string.rep('\255', 27) -- no entry of this priority sorts after it
  w.sure = 1
  return true
end

-- Pops an equal share of each; what one does not use is shared by those that have more.
local function pop_shares(queues)
  while #queues > 0 and #got < limit do
    local share = math.ceil((limit - #got) / #queues)
    local still = {}
    for _, w in ipairs(queues) do
      local room = math.min(share, limit - #got, w.left)
      if room > w.sure then w.sure = call('ZLEXCOUNT', KEYS[w.key], '-', w.last) end
      local most = math.min(room, w.sure)
      if most > 0 and pop(w, most) == room and w.left > 0 then still[#still + 1] = w end
      w.sure = w.sure - most
    end
    queues = still
  end
end

-- Pops the highest priority of all queues first.
local function pop_by_priority(queues)
  local looked = {}
  for _, w in ipairs(queues) do
    if look(w) then looked[#looked + 1] = w end
  end
  while #looked > 0 and #got < limit do
    local highest, first, others = math.huge, {}, {}
    for _, w in ipairs(looked) do highest = math.min(highest, w.priority) end
    for _, w in ipairs(looked) do
      if w.priority == highest then first[#first + 1] = w end
    end
    pop_shares(first)
    if #got >= limit then return end
    for _, w in ipairs(looked) do
      if w.priority ~= highest or (w.left > 0 and look(w)) then others[#others + 1] = w end
    end
    looked = others
  end
end

for f = NAME, #ARGV, 2 do
  local ready, name, most = FIRST + f - NAME, ARGV[f], tonumber(ARGV[f + 1])
  if call('HEXISTS', QUEUED, name) == 1 then
    promote(KEYS[ready], KEYS[ready + 1], time, limit)
    local served = tonumber(call('HGET', SERVED, name) or '0')
    waiting[#waiting + 1] = {key = ready, name = name, left = most, served = served}
  end
end
table.sort(waiting, function(a, b)
  if a.served ~= b.served then return a.served < b.served end
  return a.name < b.name
end)
if #waiting == 1 then
  pop(waiting[1], math.min(limit, waiting[1].left))
else
  pop_by_priority(waiting)
end
if #got == 0 then return {next_due()} end
-- Not less than the time in milliseconds: a replica that takes over may not know the last tokens of the primary.
local last = math.max(tonumber(call('HGET', META, 'token') or '0'), math.floor(time * 1000))
call('HSET', META, 'token', num(last + #got))
local till = num(time + seconds)
local ids, numbers = {}, {}
for _, g in ipairs(got) do number(string.sub(g[1], 17, 32), ids, numbers) end
local leases, given, expiries, rows = {}, {}, {}, {}
for i, packed in ipairs(read('HMGET', LEASES, ids)) do leases[i] = {packed or ''} end
for i, g in ipairs(got) do
  local id, step, w = string.sub(g[1], 17, 32), struct.unpack('>I2', string.sub(g[1], 33, 34)), g[2]
  local n, token = numbers[id], (last + i) * shards + shard
  push(leases[n], lease(step, token, time, string.sub(g[1], 1, 16), worker, w.name))
  given[i] = struct.pack(GIVEN, id, step, token)
  push(expiries, till, field(id, step))
  push(rows, n, step)
  push(rows, token)
end
local leased = {}
for i, id in ipairs(ids) do push(leased, id, table.concat(leases[i])) end
write('HSET', LEASES, leased)
write('ZADD', UNTIL, expiries)
record_reply({table.concat(given), num(time), till})
return {'', read('HMGET', JOBS, ids), rows, num(time), till}
