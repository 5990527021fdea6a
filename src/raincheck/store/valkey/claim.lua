-- Moves ready places into leases of a worker: each function its share, then what is left.
-- KEYS after the fixed ones: what this worker got last, then ready and later of each function.
-- ARGV: worker, limit, lease seconds, shards, shard, nonce, replay (1: the same call may have been here), functions...
-- Returns {next due or ''}, or {'', value, step, token, value, step, token, ..., since, until}.
local time = now()
local worker, limit, seconds = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local shards, shard = tonumber(ARGV[4]), tonumber(ARGV[5])
local LAST, FIRST, NAME = KEYS[STATE + 6], STATE + 7, 8
local got, waiting = {}, {}

local function answer_of(members, since, till)
  local answer = {''}
  for _, m in ipairs(members) do
    local lease = leases_of(m[1])[m[2]]
    if lease and lease[1] == m[3] then
      local n = #answer
      answer[n + 1], answer[n + 2], answer[n + 3] = call('HGET', JOBS, m[1]), m[2], m[3]
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

local function promote(ready, later)
  for _, member in ipairs(call('ZRANGEBYSCORE', later, '-inf', string.format('%.6f', time), 'LIMIT', 0, limit)) do
    local due = tonumber(call('ZSCORE', later, member))
    local priority = struct.unpack('>I2', string.sub(member, 19, 20)) - 32768
    call('ZREM', later, member)
    call('ZADD', ready, string.format('%.0f', -priority * 4398046511104 + math.floor(due * 1000) - 1735689600000), member)
  end
end

for f = NAME, #ARGV do
  local ready = FIRST + 2 * (f - NAME)
  promote(KEYS[ready], KEYS[ready + 1])
  if call('EXISTS', KEYS[ready]) == 1 then waiting[#waiting + 1] = {ready, ARGV[f]} end
end
while #waiting > 0 and #got < limit do
  local share = math.ceil((limit - #got) / #waiting)
  local still = {}
  for _, w in ipairs(waiting) do
    local room = math.min(share, limit - #got)
    if room <= 0 then break end
    local popped = call('ZPOPMIN', KEYS[w[1]], room)
    for i = 1, #popped, 2 do got[#got + 1] = {popped[i], popped[i + 1], w[1], w[2]} end
    if #popped > 0 then count(w[2], -#popped / 2) end
    if #popped / 2 == room then still[#still + 1] = w end
  end
  waiting = still
end
if #got == 0 then
  local due = nil
  for f = NAME, #ARGV do
    local first = call('ZRANGE', KEYS[FIRST + 2 * (f - NAME) + 1], 0, 0, 'WITHSCORES')
    if first[2] and (not due or tonumber(first[2]) < due) then due = tonumber(first[2]) end
  end
  return {due and string.format('%.6f', due) or ''}
end
local token = call('HINCRBY', META, 'token', #got) - #got
local till = string.format('%.6f', time + seconds)
local since = string.format('%.6f', time)
local members = {}
for i, g in ipairs(got) do
  token = token + 1
  local id, step = string.sub(g[1], 1, 16), struct.unpack('>I2', string.sub(g[1], 17, 18))
  local leases = leases_of(id)
  local fence = token * shards + shard
  leases[step] = {fence, worker, time, KEYS[g[3]], KEYS[g[3] + 1], g[1], g[2], g[4]}
  keep_leases(id, leases)
  call('ZADD', UNTIL, till, string.sub(g[1], 1, 18))
  members[i] = {id, step, fence}
end
call('SET', LAST, cmsgpack.pack({ARGV[6], members, since, till}), 'EX', 60)
return answer_of(members, since, till)
