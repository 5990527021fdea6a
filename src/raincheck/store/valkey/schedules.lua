-- Reads schedules. KEYS after the fixed ones: schedules, schedules-due.
-- ARGV: all; or one, name; or due, limit. Returns their values.
local schedules, schedules_due = KEYS[FIXED + 1], KEYS[FIXED + 2]
if ARGV[1] == 'all' then return call('HVALS', schedules) end
local names = {ARGV[2]}
if ARGV[1] == 'due' then
  names = call('ZRANGEBYSCORE', schedules_due, '-inf', num(now()), 'LIMIT', 0, tonumber(ARGV[2]))
end
local values = {}
for _, name in ipairs(names) do values[#values + 1] = call('HGET', schedules, name) or nil end
return values
