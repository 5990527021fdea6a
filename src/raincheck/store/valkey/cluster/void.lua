-- Looks at a job for which an idempotency key is reserved. ARGV: id, until when it is never to be written if it has not
-- been yet ('': leave it). Returns 1: it is there, or was; 0: it is void; 2: it may still be written.
local id, till = ARGV[1], ARGV[2]
local value = call('HGET', JOBS, id)
if value then
  rewrite(JOBS, id, value)
  return 1
end
local gone = call('ZSCORE', GONE, id)
if gone then return tonumber(gone) > 0 and 1 or 0 end
if till == '' then return 2 end
call('ZADD', GONE, num(-tonumber(till)), id)
return 0
