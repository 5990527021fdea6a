-- The beginning of every script. KEYS begin with these, in the order of keys.py.
local JOBS, LEASES, UNTIL, PROGRESS = KEYS[1], KEYS[2], KEYS[3], KEYS[4] -- hash, hash, zset, hash
local WAKE, PRUNE, GONE = KEYS[5], KEYS[6], KEYS[7]                      -- zsets
local META, QUEUED, SERVED = KEYS[8], KEYS[9], KEYS[10]                  -- hashes
local IDEM, IDEM_UNTIL = KEYS[11], KEYS[12]                              -- hash, zset
local RESULTS = KEYS[13] -- hash: large results by their field; under the id of a job, which of its steps have one
local STATE = 14                                                         -- KEYS[STATE + number]: zsets
local FIXED = 20
local WAKES = 16
local CHUNK = 1000 -- words of one command; Lua's stack bears some thousands
local call = redis.call

local function num(x) return string.format('%.17g', x) end

-- The time of this server, which decides: seconds since the epoch.
local function now()
  local t = call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1e6
end

local function push(list, a, b)
  local n = #list
  list[n + 1] = a
  if b then list[n + 2] = b end
end

-- A script that writes can be called twice, because its reply can be lost. It records its reply for a minute under
-- KEYS[RECORDED], after the token ARGV[1]. A call with the same token returns the recorded reply, and writes it once more,
-- because WAIT and WAITAOF cover only the writes of their own connection.
local RECORDED, RECORDED_FOR = FIXED + 1, 60

local function recorded_reply()
  local recorded = call('GET', KEYS[RECORDED])
  if not recorded or string.sub(recorded, 1, 8) ~= ARGV[1] then return nil end
  redis.pcall('SET', KEYS[RECORDED], recorded, 'EX', RECORDED_FOR)
  return cmsgpack.unpack(string.sub(recorded, 9))
end

local function record_reply(reply)
  call('SET', KEYS[RECORDED], ARGV[1] .. cmsgpack.pack(reply), 'EX', RECORDED_FOR)
end

-- Writes an existing value once more, for the same reason.
local function rewrite(hash, name, value) redis.pcall('HSET', hash, name, value) end

-- One command for many words: each call has a cost of its own.
local function write(command, key, words)
  for i = 1, #words, CHUNK do call(command, key, unpack(words, i, math.min(i + CHUNK - 1, #words))) end
end

-- The values of ids; false for a missing one.
local function read(command, key, ids)
  if #ids <= CHUNK then return #ids > 0 and call(command, key, unpack(ids)) or {} end
  local found = {}
  for i = 1, #ids, CHUNK do
    for _, each in ipairs(call(command, key, unpack(ids, i, math.min(i + CHUNK - 1, #ids)))) do
      found[#found + 1] = each
    end
  end
  return found
end

-- The journals of a shard are one sorted set, in the order of its bytes. An entry is a job's id, ENTRIES, its number (4
-- bytes), its series and its value. Beside it, its number is found by series, which is a kind and a step: the id, SERIES,
-- the series, the number.
local ENTRIES, ENTRIES_END, SERIES, SERIES_END = 'e', 'f', 's', 't'

-- The value of a job: its revision (4 bytes), the number of its state, and its record.
local function header(value)
  local rev, state = struct.unpack('>I4B', value)
  return rev, state % WAKES, state >= WAKES
end

-- With `wakes`, the job has an entry in WAKE.
local function with_header(rev, state, wakes, record)
  return struct.pack('>I4B', rev, wakes and state + WAKES or state) .. record
end

-- The leases of a job are one string: step, token, since, place, worker, function of each. `place` is the beginning of the
-- member in the queue, before the id and the step.
local LEASE = '>I2I8dc16I2c0I2c0'

local function lease(step, token, since, place, worker, func)
  return struct.pack(LEASE, step, token, since, place, #worker, worker, #func, func)
end

local function leases_of(id) return call('HGET', LEASES, id) or '' end

-- The lease on a step: its start, the start of the next one, token, since, place, worker, function.
local function lease_on(leases, step)
  local at = 1
  while at <= #leases do
    local each, token, since, place, worker, func, after = struct.unpack(LEASE, leases, at)
    if each == step then return at, after, token, since, place, worker, func end
    at = after
  end
end

local function cut(leases, at, after) return string.sub(leases, 1, at - 1) .. string.sub(leases, after) end

local function field(id, step) return id .. struct.pack('>I2', step) end

-- Whether this token holds the lease on a step.
local function held(id, step, token)
  local at, after, has = lease_on(leases_of(id), step)
  return has == token
end

-- Counts the entries in the queue of a function. A count of 0 is removed.
local function count(func, by)
  if call('HINCRBY', QUEUED, func, by) == 0 then call('HDEL', QUEUED, func) end
end

-- Members of queues sort by themselves: priority, due time, id (from byte 17), step (from byte 33).
local function promote(ready, later, time, limit)
  for _, member in ipairs(call('ZRANGEBYSCORE', later, '-inf', time, 'LIMIT', 0, limit)) do
    call('ZREM', later, member)
    call('ZADD', ready, 0, member)
  end
end

local function append_lease(reply, id, step, token, since, worker)
  local name = field(id, step)
  push(reply, step, token)
  push(reply, worker, num(since))
  push(reply, call('ZSCORE', UNTIL, name), call('HGET', PROGRESS, name) or '')
end

-- The value of a job, then each of its leases.
local function with_leases(id, value)
  local reply, leases, at = {value}, leases_of(id), 1
  while at <= #leases do
    local step, token, since, place, worker, func, after = struct.unpack(LEASE, leases, at)
    append_lease(reply, id, step, token, since, worker)
    at = after
  end
  return reply
end
