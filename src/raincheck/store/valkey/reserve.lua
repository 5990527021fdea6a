-- Reserves an idempotency key for a job that is then written in its own shard.
-- ARGV: key, job id, fingerprint, until, the job id whose reservation is void ('': none), replay.
-- Returns 0: it is reserved, or {job id, fingerprint, until, seconds for which it has been reserved} by another.
local time = now()
local name, id = ARGV[1], ARGV[2]
local packed = call('HGET', IDEM, name)
if packed then
  local found = cmsgpack.unpack(packed)
  local mine = found[1] == ARGV[5] or (ARGV[6] == '1' and found[1] == id)
  if found[3] > time and not mine then return {found[1], found[2], num(found[3]), num(time - found[4])} end
end
call('HSET', IDEM, name, cmsgpack.pack({id, ARGV[3], tonumber(ARGV[4]), time}))
call('ZADD', IDEM_UNTIL, ARGV[4], name)
return 0
