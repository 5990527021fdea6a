-- Reads schedules. KEYS after the fixed ones: schedules. ARGV: the name of one, or nothing for all. Returns their values.
local schedules = KEYS[FIXED + 1]
if not ARGV[1] then return call('HVALS', schedules) end
local value = call('HGET', schedules, ARGV[1])
return value and {value} or {}
