-- Begins a namespace, or looks at it. KEYS after the fixed ones: config. ARGV: version, shards. Returns what it has.
local config = KEYS[FIXED + 1]
call('HSETNX', config, 'version', ARGV[1])
call('HSETNX', config, 'shards', ARGV[2])
return {call('HGET', config, 'version'), call('HGET', config, 'shards')}
