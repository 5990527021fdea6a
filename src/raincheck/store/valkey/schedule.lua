-- Writes a schedule, or removes it. KEYS after the fixed ones: recorded reply, schedules, schedules-due.
-- ARGV: token, name, prefix of the stored value ('': there must be none), value ('' to remove), due ('' for never).
-- A value is an id (36 bytes), a revision (4 bytes) and the record.
-- Returns 1, or 0: the stored value is a different one.
local recorded = recorded_reply()
if recorded then return recorded end
local schedules, schedules_due = KEYS[FIXED + 2], KEYS[FIXED + 3]
local name, before, value, due = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local found = call('HGET', schedules, name) or ''
if found == value then return 0 end
if before == '' and found ~= '' or string.sub(found, 1, #before) ~= before then return 0 end
if value == '' then
  call('HDEL', schedules, name)
else
  call('HSET', schedules, name, value)
end
if due == '' then call('ZREM', schedules_due, name) else call('ZADD', schedules_due, due, name) end
record_reply(1)
return 1
