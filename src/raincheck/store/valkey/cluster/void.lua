-- Looks for the job of a reservation. ARGV: id, time until which to void the id if the job is not there ('': do not void).
-- Returns 1: the job is or was there; 0: the id is void; 2: the job may still be written.
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
