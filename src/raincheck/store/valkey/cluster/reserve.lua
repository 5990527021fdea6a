-- Reserves an idempotency key for a job that is then written in its own shard.
-- KEYS after the fixed ones: recorded reply. ARGV: token, key, job id, fingerprint, until, job id whose reservation is
-- void ('': none).
-- Returns 0: it is reserved, or {job id, fingerprint, until, age in seconds} of the reservation of another job.
local recorded = recorded_reply()
if recorded then return recorded end
local time = now()
local name, id = ARGV[2], ARGV[3]
local packed = call('HGET', IDEM, name)
if packed then
  local found = cmsgpack.unpack(packed)
  if found[3] > time and found[1] ~= ARGV[6] then return {found[1], found[2], num(found[3]), num(time - found[4])} end
end
call('HSET', IDEM, name, cmsgpack.pack({id, ARGV[4], tonumber(ARGV[5]), time}))
call('ZADD', IDEM_UNTIL, ARGV[5], name)
record_reply(0)
return 0
