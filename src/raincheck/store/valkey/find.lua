-- Reads jobs with their leases. ARGV: ids. Returns for each: {value, step, token, worker, since, until, progress, ...},
-- 1 if it is remembered to have been there, 0 if not.
local time, answers = now(), {}
for i, id in ipairs(ARGV) do
  local value = call('HGET', JOBS, id)
  if value then
    answers[i] = with_leases(id, value)
  else
    local till = call('ZSCORE', GONE, id)
    answers[i] = till and tonumber(till) > time and 1 or 0
  end
end
return answers
