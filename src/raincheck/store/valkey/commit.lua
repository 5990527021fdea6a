-- Writes changes, each entirely or not at all.
-- KEYS after the fixed ones: recorded reply, then the queues. ARGV: token, changes (msgpack), channel, hint, then for each
-- change the id of its job, its tags, its record, the members of take, drop and put, its large results, and the series
-- and value of each journal entry. These bytes are not in the msgpack, because its Lua decoder cannot read binary values.
-- A change: {rev, state, check_at|false, key|false, take, release, hold, drop, put, ended, results, journal}; empty lists
-- are nil; results are the steps of the large results; journal is the key of the journals, then how many entries of its
-- series to keep beside the first, for each entry. `ended`: the state is an ended one. Ended jobs wait in PRUNE, other jobs
-- with a check_at in WAKE.
-- A queue entry: {step, ready key, later key, due, function}; a key is its number in KEYS.
-- A lease guard: {step, token, expired}. An idempotency key: {name, fingerprint, until}.
-- Returns for each change: 0 written, 1 conflict, {job id, fingerprint} if its key is taken.
local recorded = recorded_reply()
if recorded then return recorded end
local SIZE, FIRST, WORDS, NONE = 34, 5, 4, {}
local time = now()
local changes = cmsgpack.unpack(ARGV[2])
local seen, keys, reports = {}, {}, nil

-- The writes of all changes. Removals go first: they free memory, so that jobs can end on a full server.
local unleased, lapsed, asleep, revived, expired = {}, {}, {}, {}, {} -- from LEASES, UNTIL, WAKE, PRUNE, GONE
local leased, records, wakes, prunes = {}, {}, {}, {}           -- to LEASES, JOBS, WAKE, PRUNE
local results = {}                                              -- to RESULTS
local journaled = {}                                            -- the changes with entries
local left, entered, ready, later, queued = {}, {}, {}, {}, {}  -- by state, state, key, key, function

local function listed(lists, key)
  lists[key] = lists[key] or {}
  return lists[key]
end

local function waits(p) return call('ZSCORE', KEYS[p[2]], p.member) or call('ZSCORE', KEYS[p[3]], p.member) end

local function in_force(c, guard)
  local at, after, token = lease_on(c.leases, guard[1])
  if token ~= guard[2] then return false end
  return not guard[3] or tonumber(call('ZSCORE', UNTIL, field(c.id, guard[1]))) <= time
end

local function taken(key)
  local packed = not keys[key[1]] and call('HGET', IDEM, key[1])
  local found = packed and cmsgpack.unpack(packed) or keys[key[1]]
  if not found or found[3] <= time then return nil end
  if packed then rewrite(IDEM, key[1], packed) end
  return {found[1], found[2]}
end

local function dequeue(p)
  if call('ZREM', KEYS[p[2]], p.member) + call('ZREM', KEYS[p[3]], p.member) > 0 then
    queued[p[5]] = (queued[p[5]] or 0) - 1
  end
end

local function enqueue(p)
  if p[4] <= time then push(listed(ready, p[2]), 0, p.member) else push(listed(later, p[3]), p[4], p.member) end
  queued[p[5]] = (queued[p[5]] or 0) + 1
end

local function unlease(c, step)
  local at, after = lease_on(c.leases, step)
  if not at then return end
  local name = field(c.id, step)
  c.leases = cut(c.leases, at, after)
  push(lapsed, name)
  if reports == nil then reports = call('EXISTS', PROGRESS) == 1 end
  if reports then call('HDEL', PROGRESS, name) end
end

-- The time of a void id is negative.
local function is_used(c) return c.stored or (c.gone and math.abs(tonumber(c.gone)) > time) end

local function holds(c)
  local rev, take, release, hold = c[1], c[5], c[6], c[7]
  if rev == 1 then
    return not take and not release and not hold and not is_used(c)
  end
  if not c.stored or c.was ~= rev - 1 then return false end
  for _, guard in ipairs(release or NONE) do if not in_force(c, guard) then return false end end
  for _, guard in ipairs(hold or NONE) do if not in_force(c, guard) then return false end end
  for _, p in ipairs(take or NONE) do if not waits(p) then return false end end
  return true
end

local function gather_state(c)
  local state, check_at, ended = c[2], c[3], c[10]
  if c.before ~= state then
    if c.before then
      push(listed(left, c.before), c.entry)
      if not ended then push(revived, c.id) end -- it may have ended before
    end
    push(listed(entered, state), 0, c.entry)
  end
  if c.gone then push(expired, c.id) end
  if c.woke and (ended or not check_at) then push(asleep, c.id) end
  if check_at then push(ended and prunes or wakes, check_at, c.id) end
end

local function gather_results(c)
  local steps = call('HGET', RESULTS, c.id) or ''
  for i, step in ipairs(c[11]) do
    push(results, field(c.id, step), ARGV[c.at + WORDS + i - 1])
    steps = steps .. struct.pack('>I2', step)
  end
  push(results, c.id, steps)
end

local function append_entries(c)
  local journal, list, words = KEYS[c.journal[1]], c.id .. ENTRIES, c.at + WORDS + #(c[11] or NONE)
  local latest = call('ZREVRANGEBYLEX', journal, '(' .. c.id .. ENTRIES_END, '[' .. list, 'LIMIT', 0, 1)[1]
  local number = latest and struct.unpack('>I4', latest, #list + 1) or 0
  for i = 2, #c.journal do
    number = number + 1
    local name, value, packed = ARGV[words], ARGV[words + 1], struct.pack('>I4', number)
    local series = c.id .. SERIES .. name
    call('ZADD', journal, 0, list .. packed .. name .. value, 0, series .. packed)
    local first, last = '[' .. series, '[' .. series .. '\255\255\255\255'
    if call('ZLEXCOUNT', journal, first, last) > c.journal[i] + 1 then
      local second = call('ZRANGEBYLEX', journal, first, last, 'LIMIT', 1, 1)[1]
      local old = struct.unpack('>I4', second, #series + 1)
      call('ZREM', journal, second)
      call('ZREMRANGEBYLEX', journal, '[' .. list .. struct.pack('>I4', old), '(' .. list .. struct.pack('>I4', old + 1))
    end
    words = words + 2
  end
end

local function gather(c)
  local release, drop = c[6], c[8]
  for _, p in ipairs(c[5] or NONE) do dequeue(p) end
  if release or drop then
    for _, guard in ipairs(release or NONE) do unlease(c, guard[1]) end
    for _, p in ipairs(drop or NONE) do dequeue(p) unlease(c, p[1]) end
    if c.leases == '' then push(unleased, c.id) else push(leased, c.id, c.leases) end
  end
  push(records, c.id, c.value)
  if c[11] then gather_results(c) end
  if c.journal then push(journaled, c) end
  gather_state(c)
  for _, p in ipairs(c[9] or NONE) do enqueue(p) end
end

local function apply(c)
  if c.stored then c.was, c.before, c.woke = header(c.stored) end
  if seen[c.id] then return 1 end
  local key = c[4]
  local other = key and taken(key)
  if other then return other end
  if not holds(c) then return 1 end
  gather(c)
  if key then keys[key[1]] = {c.id, key[2], key[3]} end
  seen[c.id] = true
  return 0
end

local function take_words(c, at)
  c.at = at
  c.id, c.entry = ARGV[at], ARGV[at] .. ARGV[at + 1]
  c.value = with_header(c[1], c[2], c[3] and not c[10], ARGV[at + 2])
  local members, first = ARGV[at + 3], 1
  for list = 5, 9 do
    if list == 5 or list > 7 then
      for _, p in ipairs(c[list] or NONE) do
        p.member = string.sub(members, first, first + SIZE - 1)
        first = first + SIZE
      end
    end
  end
end

local function look_up()
  local ids, new, leasing, known, at = {}, {}, {}, {}, FIRST
  for i, c in ipairs(changes) do
    take_words(c, at)
    at = at + WORDS + #(c[11] or NONE)
    c.journal = c[12]
    if c.journal then at = at + 2 * (#c.journal - 1) end
    ids[i] = c.id
    if c[1] == 1 then push(new, c.id) end
    if c[6] or c[7] or c[8] then push(leasing, c.id) end
  end
  for i, gone in ipairs(read('ZMSCORE', GONE, new)) do known[new[i]] = gone end
  local leases = {}
  for i, packed in ipairs(read('HMGET', LEASES, leasing)) do leases[leasing[i]] = packed end
  for i, stored in ipairs(read('HMGET', JOBS, ids)) do
    local c = changes[i]
    c.stored, c.gone, c.leases = stored, c[1] == 1 and known[c.id], leases[c.id] or ''
  end
end

local function write_all()
  write('HDEL', LEASES, unleased)
  write('ZREM', UNTIL, lapsed)
  write('ZREM', WAKE, asleep)
  write('ZREM', PRUNE, revived)
  write('ZREM', GONE, expired)
  for state, entries in pairs(left) do write('ZREM', KEYS[STATE + state], entries) end
  write('HSET', JOBS, records)
  write('HSET', RESULTS, results)
  for _, c in ipairs(journaled) do append_entries(c) end
  write('HSET', LEASES, leased)
  for state, entries in pairs(entered) do write('ZADD', KEYS[STATE + state], entries) end
  write('ZADD', WAKE, wakes)
  write('ZADD', PRUNE, prunes)
  for key, members in pairs(ready) do write('ZADD', KEYS[key], members) end
  for key, members in pairs(later) do write('ZADD', KEYS[key], members) end
  for func, by in pairs(queued) do count(func, by) end
  for name, key in pairs(keys) do
    call('HSET', IDEM, name, cmsgpack.pack(key))
    call('ZADD', IDEM_UNTIL, key[3], name)
  end
end

look_up()
local replies = {}
for i, c in ipairs(changes) do replies[i] = apply(c) end
if next(seen) then
  write_all()
  record_reply(replies)
  if ARGV[4] ~= '' then call('PUBLISH', ARGV[3], ARGV[4]) end
end
return replies
