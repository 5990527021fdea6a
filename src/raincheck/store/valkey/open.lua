-- Creates a namespace, or reads it. KEYS after the fixed ones: config. ARGV: version, shards. Returns {version, shards}.
local config = KEYS[FIXED + 1]
call('HSETNX', config, 'version', ARGV[1])
call('HSETNX', config, 'shards', ARGV[2])
return {call('HGET', config, 'version'), call('HGET', config, 'shards')}
