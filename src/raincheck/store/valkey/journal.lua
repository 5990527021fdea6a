-- Reads a journal. KEYS after the fixed ones: the journals. ARGV: the id of a job, the number after which to read, the number
-- of entries. Returns the entries.
local first = '[' .. ARGV[1] .. ENTRIES .. struct.pack('>I4', tonumber(ARGV[2]) + 1)
return call('ZRANGEBYLEX', KEYS[FIXED + 1], first, '(' .. ARGV[1] .. ENTRIES_END, 'LIMIT', 0, ARGV[3])
