-- Reads jobs with their leases. ARGV: ids. Returns for each: {value, step, token, worker, since, until, progress, ...},
-- 1 if it is remembered to have been there, 0 if not.
local answers = {}
for i, id in ipairs(ARGV) do
  local value = call('HGET', JOBS, id)
  if not value then
    answers[i] = call('ZSCORE', GONE, id) and 1 or 0
  else
    local answer = {value}
    for step, lease in pairs(leases_of(id)) do
      local n, name = #answer, field(id, step)
      answer[n + 1], answer[n + 2], answer[n + 3] = step, lease[1], lease[2]
      answer[n + 4], answer[n + 5] = string.format('%.6f', lease[3]), call('ZSCORE', UNTIL, name)
      answer[n + 6] = call('HGET', PROGRESS, name) or ''
    end
    answers[i] = answer
  end
end
return answers
