-- Put before every script. KEYS begin with these, in the order of keys.py.
local JOBS, LEASES, UNTIL, PROGRESS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]   -- hash, hash, zset, hash
local ALL, WAKE, PRUNE, GONE = KEYS[5], KEYS[6], KEYS[7], KEYS[8]          -- zsets
local IDEM, IDEM_UNTIL, META, QUEUED = KEYS[9], KEYS[10], KEYS[11], KEYS[12] -- hash, zset, hash, hash
local STATE = 13                                                          -- KEYS[STATE + number]
local ENDED_FROM = 3
local call = redis.call

-- Our clock, seconds since the epoch: the clock that decides.
local function now()
  local t = call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1e6
end

-- A job is kept as its revision (4 bytes), its state's number (1 byte) and its record.
local function header(value)
  local rev, state = struct.unpack('>I4B', value)
  return rev, state
end

-- The leases of a job, by step: {token, worker, since, ready key, later key, member, score, due, function}
local function leases_of(id)
  local packed = call('HGET', LEASES, id)
  return packed and cmsgpack.unpack(packed) or {}
end

local function keep_leases(id, leases)
  if next(leases) == nil then call('HDEL', LEASES, id)
  else call('HSET', LEASES, id, cmsgpack.pack(leases)) end
end

local function field(id, step) return id .. struct.pack('>I2', step) end

-- Count places in the queue of a function; what comes to nothing leaves nothing behind.
local function count(func, by)
  if call('HINCRBY', QUEUED, func, by) == 0 then call('HDEL', QUEUED, func) end
end

local function place(ready, later, member, score, due, time)
  if due <= time then call('ZADD', ready, score, member)
  else call('ZADD', later, string.format('%.6f', due), member) end
end
