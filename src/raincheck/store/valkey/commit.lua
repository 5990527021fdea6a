-- Writes changes, each entirely or not at all.
-- ARGV: changes (msgpack), bell channel, bell message, replay (1: the same call may have been here), then of each
-- change its job's id, its record, and the members of take, drop and put: bytes that are no text stay out of the
-- msgpack, whose Lua reader knows no such type.
-- A change: {rev, state, alarm|false, key|false, index keys, take, release, hold, drop, put}
-- A place: {step, ready key, later key, due, function}; a key is its number in KEYS.
-- A lease guard: {step, token, expired}. An idempotency key: {name, fingerprint, until}.
-- Returns for each change: 0 written, 1 conflict, {job id, fingerprint} if its key is taken.
local time = now()
local replay = ARGV[4] == '1'
local seen, written = {}, false
local SIZE = 34

local function waits(p) return call('ZSCORE', KEYS[p[2]], p.member) or call('ZSCORE', KEYS[p[3]], p.member) end

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

local function dequeue(p)
  if call('ZREM', KEYS[p[2]], p.member) + call('ZREM', KEYS[p[3]], p.member) > 0 then count(p[5], -1) end
end

local function is_used(id, stored)
  if stored then return true end
  local till = call('ZSCORE', GONE, id)
  return till and tonumber(till) > time
end

local function holds(c, id, stored, leases)
  local rev, take, release, hold = c[1], c[6], c[7], c[8]
  if rev == 1 then return #take + #release + #hold == 0 and not is_used(id, stored) end
  if not stored or header(stored) ~= rev - 1 then return false end
  for _, guard in ipairs(release) do if not in_force(leases, id, guard) then return false end end
  for _, guard in ipairs(hold) do if not in_force(leases, id, guard) then return false end end
  for _, p in ipairs(take) do if not waits(p) then return false end end
  return true
end

local function set_alarm(id, rev, alarm, ended)
  if rev == 1 then call('ZREM', GONE, id)
  else
    if ended or not alarm then call('ZREM', WAKE, id) end
    if not ended then call('ZREM', PRUNE, id) end
  end
  if alarm then call('ZADD', ended and PRUNE or WAKE, num(alarm), id) end
end

local function write(c, id, value, before, leases)
  local rev, state, indexes, take, release, drop, put = c[1], c[2], c[5], c[6], c[7], c[9], c[10]
  for _, p in ipairs(take) do dequeue(p) end
  if #release + #drop > 0 then -- first: they free memory, so that a full server lets jobs end
    for _, guard in ipairs(release) do unlease(leases, id, guard[1]) end
    for _, p in ipairs(drop) do dequeue(p) unlease(leases, id, p[1]) end
    keep_leases(id, leases)
  end
  call('HSET', JOBS, id, value)
  if rev == 1 then
    call('ZADD', ALL, 0, id)
    for _, k in ipairs(indexes) do call('ZADD', KEYS[k], 0, id) end
  end
  if before ~= state then
    if before then call('ZREM', KEYS[STATE + before], id) end
    call('ZADD', KEYS[STATE + state], 0, id)
  end
  set_alarm(id, rev, c[3], is_ended(state))
  for _, p in ipairs(put) do
    if p[4] <= time then call('ZADD', KEYS[p[2]], 0, p.member) else call('ZADD', KEYS[p[3]], num(p[4]), p.member) end
    count(p[5], 1)
  end
end

local function apply(c, id, record, members)
  local at = 1
  for _, places in ipairs({c[6], c[9], c[10]}) do
    for _, p in ipairs(places) do
      p.member = string.sub(members, at, at + SIZE - 1)
      at = at + SIZE
    end
  end
  local rev, key = c[1], c[4]
  local stored = call('HGET', JOBS, id)
  local value = struct.pack('>I4B', rev, c[2]) .. record
  if replay and stored and (rev == 1 or stored == value) then return 0 end
  if seen[id] then return 1 end
  local other = key and taken(key, id)
  if other then return other end
  local leases = #c[7] + #c[8] + #c[9] > 0 and leases_of(id)
  if not holds(c, id, stored, leases) then return 1 end
  local before = nil
  if stored then local _, state = header(stored) before = state end
  write(c, id, value, before, leases)
  if key then
    call('HSET', IDEM, key[1], cmsgpack.pack({c.id, key[2], key[3]}))
    call('ZADD', IDEM_UNTIL, num(key[3]), key[1])
  end
  seen[id], written = true, true
  return 0
end

local answers = {}
for i, c in ipairs(cmsgpack.unpack(ARGV[1])) do
  c.id = ARGV[2 + 3 * i]
  answers[i] = apply(c, c.id, ARGV[3 + 3 * i], ARGV[4 + 3 * i])
end
if written and ARGV[3] ~= '' then call('PUBLISH', ARGV[2], ARGV[3]) end
return answers
