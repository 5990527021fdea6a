-- Releases an idempotency key that is reserved for this job. ARGV: key, job id.
local packed = call('HGET', IDEM, ARGV[1])
if packed and cmsgpack.unpack(packed)[1] == ARGV[2] then
  call('HDEL', IDEM, ARGV[1])
  call('ZREM', IDEM_UNTIL, ARGV[1])
end
return 0
