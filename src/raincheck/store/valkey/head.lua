-- Put before every script. KEYS begin with these, in the order of keys.py.
local JOBS, LEASES, UNTIL, PROGRESS = KEYS[1], KEYS[2], KEYS[3], KEYS[4] -- hash, hash, zset, hash
local ALL, WAKE, PRUNE, GONE = KEYS[5], KEYS[6], KEYS[7], KEYS[8]        -- zsets
local META, QUEUED, SERVED = KEYS[9], KEYS[10], KEYS[11]                 -- hashes
local IDEM, IDEM_UNTIL = KEYS[12], KEYS[13]                              -- hash, zset; of all shards together
local STATE = 14                                                         -- KEYS[STATE + number]: zsets
local FIXED = 20
local call = redis.call

local function num(x) return string.format('%.17g', x) end

-- Our clock, seconds since the epoch: the clock that decides.
local function now()
  local t = call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1e6
end

-- A job is kept as its revision (4 bytes), its state's number (1 byte) and its record.
local function header(value) return struct.unpack('>I4B', value) end
local function is_ended(state) return state >= 3 and state <= 5 end

-- The leases of a job, by step: {token, worker, since, ready key, member, function}
local function leases_of(id)
  local packed = call('HGET', LEASES, id)
  return packed and cmsgpack.unpack(packed) or {}
end

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

local function unlease(leases, id, step)
  leases[step] = nil
  call('ZREM', UNTIL, field(id, step))
  call('HDEL', PROGRESS, field(id, step))
end

-- Count places in the queue of a function; what comes to nothing leaves nothing behind.
local function count(func, by)
  if call('HINCRBY', QUEUED, func, by) == 0 then call('HDEL', QUEUED, func) end
end

-- Members of queues sort by themselves: priority, due time, id (from byte 17), step (from byte 33).
local function promote(ready, later, time, limit)
  for _, member in ipairs(call('ZRANGEBYSCORE', later, '-inf', num(time), 'LIMIT', 0, limit)) do
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
