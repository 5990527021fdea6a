-- Reads jobs with their leases. ARGV: ids. Returns for each: {value, step, token, worker, since, until, progress, ...},
-- 1 if the job was removed, 0 if it is unknown.
local time, replies = now(), {}
for i, id in ipairs(ARGV) do
  local value = call('HGET', JOBS, id)
  if value then
    replies[i] = with_leases(id, value)
  else
    local till = call('ZSCORE', GONE, id)
    replies[i] = till and tonumber(till) > time and 1 or 0
  end
end
return replies
