-- Moves ready queue entries into leases of a worker: a share for each function, first the one served longest ago.
-- KEYS after the fixed ones: recorded reply, then ready and later of each function.
-- ARGV: token, worker, limit, lease seconds, shards, shard, expiry time of this call, then for each function its name and
-- the number of entries to take (-1: its share).
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
  return n
end

for f = NAME, #ARGV, 2 do
  local ready, name = FIRST + f - NAME, ARGV[f]
  if call('HEXISTS', QUEUED, name) == 1 then
    promote(KEYS[ready], KEYS[ready + 1], time, limit)
    local w = {key = ready, name = name, room = tonumber(ARGV[f + 1])}
    w.served = tonumber(call('HGET', SERVED, name) or '0')
    waiting[#waiting + 1] = w
  end
end
table.sort(waiting, function(a, b)
  if a.served ~= b.served then return a.served < b.served end
  return a.name < b.name
end)
while #waiting > 0 and #got < limit do
  local share = math.ceil((limit - #got) / #waiting)
  local still = {}
  for _, w in ipairs(waiting) do
    local room = w.room < 0 and math.min(share, limit - #got) or w.room
    if room > 0 and pop(w, room) == room and w.room < 0 then still[#still + 1] = w end
  end
  waiting = still
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
