-- Moves ready places into leases of a worker: each function its share, the one served longest ago first.
-- KEYS after the fixed ones: what this worker got last, then ready and later of each function.
-- ARGV: worker, limit, lease seconds, shards, shard, nonce, replay (1: the same call may have been here), then of
-- each function its name and how many to take of it (-1: its share).
-- Returns {next due or ''}, or {'', value, step, token, value, step, token, ..., since, until}.
local time = now()
local worker, limit, seconds = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local shards, shard = tonumber(ARGV[4]), tonumber(ARGV[5])
local LAST, FIRST, NAME = KEYS[FIXED + 1], FIXED + 2, 8
local MEMORY = 60
local got, waiting = {}, {}

local function answer_of(members, since, till)
  local answer, known = {''}, {}
  for _, m in ipairs(members) do
    local id = m[1]
    known[id] = known[id] or {leases_of(id), call('HGET', JOBS, id)}
    local lease = known[id][1][m[2]]
    if lease and lease[1] == m[3] then
      local n = #answer
      answer[n + 1], answer[n + 2], answer[n + 3] = known[id][2], m[2], m[3]
    end
  end
  answer[#answer + 1] = since
  answer[#answer + 1] = till
  return answer
end

if ARGV[7] == '1' then -- the answer to the first try may have been lost on its way
  local last = call('GET', LAST)
  last = last and cmsgpack.unpack(last)
  if last and last[1] == ARGV[6] then return answer_of(last[2], last[3], last[4]) end
end

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
    call('HSET', SERVED, w.name, num(time))
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
-- Not less than the time in milliseconds: who takes over from a lost primary may not know what that gave out last.
local token = math.max(tonumber(call('HGET', META, 'token') or '0'), math.floor(time * 1000))
call('HSET', META, 'token', num(token + #got))
local till = num(time + seconds)
local members, leases = {}, {}
for i, g in ipairs(got) do
  local member, w = g[1], g[2]
  local id, step = string.sub(member, 17, 32), struct.unpack('>I2', string.sub(member, 33, 34))
  local fence = (token + i) * shards + shard
  leases[id] = leases[id] or leases_of(id)
  leases[id][step] = {fence, worker, time, KEYS[w.key], member, w.name}
  call('ZADD', UNTIL, till, field(id, step))
  members[i] = {id, step, fence}
end
for id, all in pairs(leases) do keep_leases(id, all) end
call('SET', LAST, cmsgpack.pack({ARGV[6], members, num(time), till}), 'EX', MEMORY)
return answer_of(members, num(time), till)
