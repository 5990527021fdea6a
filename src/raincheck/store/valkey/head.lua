-- Put before every script. KEYS begin with these, in the order of keys.py.
local JOBS, LEASES, UNTIL, PROGRESS = KEYS[1], KEYS[2], KEYS[3], KEYS[4] -- hash, hash, zset, hash
local WAKE, PRUNE, GONE = KEYS[5], KEYS[6], KEYS[7]                      -- zsets
local META, QUEUED, SERVED = KEYS[8], KEYS[9], KEYS[10]                  -- hashes
local IDEM, IDEM_UNTIL = KEYS[11], KEYS[12]                              -- hash, zset; of all shards together
local STATE = 13                                                         -- KEYS[STATE + number]: zsets
local FIXED, ENDED_FROM = 18, 3
local WAKES = 16
local CHUNK = 1000 -- words of one command; Lua's stack bears some thousands
local call = redis.call

local function num(x) return string.format('%.17g', x) end

-- Our clock, seconds since the epoch: the clock that decides.
local function now()
  local t = call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1e6
end

local function push(list, a, b)
  local n = #list
  list[n + 1] = a
  if b then list[n + 2] = b end
end

-- One command for all of these words: a call for each would cost more than what it does.
local function write(command, key, words)
  for i = 1, #words, CHUNK do call(command, key, unpack(words, i, math.min(i + CHUNK - 1, #words))) end
end

-- What is there of each of these ids; false where nothing is.
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

-- A job is kept as its revision (4 bytes), its state's number, and its record.
local function header(value)
  local rev, state = struct.unpack('>I4B', value)
  return rev, state % WAKES, state >= WAKES
end

-- With `wakes`, the job has an alarm in WAKE.
local function with_header(rev, state, wakes, record)
  return struct.pack('>I4B', rev, wakes and state + WAKES or state) .. record
end

-- The leases of a job, by step: {token, worker, since, ready key, member, function}
local function unpacked(packed) return packed and cmsgpack.unpack(packed) or {} end

local function leases_of(id) return unpacked(call('HGET', LEASES, id)) end

local function keep_leases(id, leases)
  if next(leases) == nil then call('HDEL', LEASES, id)
  else call('HSET', LEASES, id, cmsgpack.pack(leases)) end
end

local function field(id, step) return id .. struct.pack('>I2', step) end

-- The lease on a step, if it has this token; and all leases of its job.
local function held(id, step, token)
  local leases = leases_of(id)
  local lease = leases[step]
  if lease and lease[1] == token then return lease, leases end
end

-- Count places in the queue of a function; what comes to nothing leaves nothing behind.
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

local function append_lease(answer, id, step, lease)
  local n, name = #answer, field(id, step)
  answer[n + 1], answer[n + 2], answer[n + 3] = step, lease[1], lease[2]
  answer[n + 4], answer[n + 5] = num(lease[3]), call('ZSCORE', UNTIL, name)
  answer[n + 6] = call('HGET', PROGRESS, name) or ''
end
