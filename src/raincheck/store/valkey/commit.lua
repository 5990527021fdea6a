-- Writes changes, each entirely or not at all.
-- ARGV: changes (msgpack), bell channel, bell message, replay (1: the same call may have been here), then id and
-- record of each change: bytes that are no text stay out of the msgpack, whose Lua reader knows no such type.
-- A change: {rev, state, alarm|false, key|false, index keys, take, release, hold, drop, put}
-- A place: {step, ready key, later key, priority, score, due, function}; a key is its number in KEYS.
-- A lease guard: {step, token, expired}. An idempotency key: {name, fingerprint, until}.
-- Returns for each change: 0 written, 1 conflict, {job id, fingerprint} if its key is taken.
local time = now()
local replay = ARGV[4] == '1'
local written = false

local function member(id, p) return id .. struct.pack('>I2I2', p[1], p[4] + 32768) end

local function waits(id, p)
  local m = member(id, p)
  return call('ZSCORE', KEYS[p[2]], m) or call('ZSCORE', KEYS[p[3]], m)
end

local function in_force(leases, id, guard)
  local lease = leases[guard[1]]
  if not lease or lease[1] ~= guard[2] then return false end
  return not guard[3] or tonumber(call('ZSCORE', UNTIL, field(id, guard[1]))) <= time
end

local function taken(key, id)
  local packed = call('HGET', IDEM, key[1])
  if not packed then return nil end
  local found = cmsgpack.unpack(packed)
  if found[3] <= time or (replay and found[1] == id) then return nil end
  return {found[1], found[2]}
end

local function dequeue(id, p)
  local m = member(id, p)
  if call('ZREM', KEYS[p[2]], m) + call('ZREM', KEYS[p[3]], m) > 0 then count(p[7], -1) end
end

local function unlease(leases, id, step)
  leases[step] = nil
  call('ZREM', UNTIL, field(id, step))
  call('HDEL', PROGRESS, field(id, step))
end

local function apply(c, id, record)
  local rev, state, alarm, key, indexes = c[1], c[2], c[3], c[4], c[5]
  local take, release, hold, drop, put = c[6], c[7], c[8], c[9], c[10]
  local stored = call('HGET', JOBS, id)
  local value = struct.pack('>I4B', rev, state) .. record
  if replay and stored == value then return 0 end
  local leases, before = nil, nil
  if rev == 1 then
    if stored then return 1 end
    local other = key and taken(key, id)
    if other then return other end
    call('ZADD', ALL, 0, id)
    for _, k in ipairs(indexes) do call('ZADD', KEYS[k], 0, id) end
  else
    if not stored then return 1 end
    local was
    was, before = header(stored)
    if was ~= rev - 1 then return 1 end
    if #release + #hold + #drop > 0 then
      leases = leases_of(id)
      for _, guard in ipairs(release) do if not in_force(leases, id, guard) then return 1 end end
      for _, guard in ipairs(hold) do if not in_force(leases, id, guard) then return 1 end end
    end
    for _, p in ipairs(take) do if not waits(id, p) then return 1 end end
    for _, p in ipairs(take) do dequeue(id, p) end
    if leases then
      for _, guard in ipairs(release) do unlease(leases, id, guard[1]) end
      for _, p in ipairs(drop) do dequeue(id, p) unlease(leases, id, p[1]) end
      keep_leases(id, leases)
    end
  end
  call('HSET', JOBS, id, value)
  if before ~= state then
    if before then call('ZREM', KEYS[STATE + before], id) end
    call('ZADD', KEYS[STATE + state], 0, id)
  end
  if before and before >= ENDED_FROM and state < ENDED_FROM then call('ZREM', PRUNE, id) end
  if alarm and state >= ENDED_FROM then call('ZADD', PRUNE, alarm, id)
  elseif alarm then call('ZADD', WAKE, alarm, id) end
  if rev > 1 and (not alarm or state >= ENDED_FROM) then call('ZREM', WAKE, id) end
  for _, p in ipairs(put) do
    place(KEYS[p[2]], KEYS[p[3]], member(id, p), p[5], p[6], time)
    count(p[7], 1)
  end
  if key then
    call('HSET', IDEM, key[1], cmsgpack.pack({id, key[2], key[3]}))
    call('ZADD', IDEM_UNTIL, key[3], key[1])
  end
  written = true
  return 0
end

local answers = {}
for i, c in ipairs(cmsgpack.unpack(ARGV[1])) do answers[i] = apply(c, ARGV[3 + 2 * i], ARGV[4 + 2 * i]) end
if written and ARGV[3] ~= '' then call('PUBLISH', ARGV[2], ARGV[3]) end
return answers
