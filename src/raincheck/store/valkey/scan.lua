-- The newest jobs of some states that have some tags. ARGV: id before which to start ('' for the newest), number of jobs
-- to compare in each state, number of tags, tags, numbers of states. Returns for each state {id where it stopped, or '' at
-- the oldest, ids...}.
local TAG = 4
local newest = ARGV[1] == '' and '+' or '(' .. ARGV[1]
local limit, tags = tonumber(ARGV[2]), tonumber(ARGV[3])
local replies = {}

local function has(entry, tag)
  for at = 17, #entry, TAG do
    if string.sub(entry, at, at + TAG - 1) == tag then return true end
  end
  return false
end

local function matches(entry)
  for i = 4, 3 + tags do
    if not has(entry, ARGV[i]) then return false end
  end
  return true
end

for s = 4 + tags, #ARGV do
  local entries = call('ZRANGE', KEYS[STATE + ARGV[s]], newest, '-', 'BYLEX', 'REV', 'LIMIT', 0, limit)
  local reply = {#entries == limit and string.sub(entries[limit], 1, 16) or ''}
  for _, entry in ipairs(entries) do
    if matches(entry) then push(reply, string.sub(entry, 1, 16)) end
  end
  push(replies, reply)
end
return replies
