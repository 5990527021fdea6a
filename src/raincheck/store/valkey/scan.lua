-- The first jobs of some states that have some tags, by id. ARGV: the first and the last id ('-' and '+', or after '[' or
-- '('), 'REV' for the newest first or '' for the oldest first, number of jobs to compare in each state, number of tags,
-- tags, numbers of states. Returns for each state {id where it stopped, or '' at the end, ids...}.
local TAG, TAGS = 4, 6
local first, last, newest = ARGV[1], ARGV[2], ARGV[3] == 'REV'
local limit, tags = tonumber(ARGV[4]), tonumber(ARGV[5])
local replies = {}

local function has(entry, tag)
  for at = 17, #entry, TAG do
    if string.sub(entry, at, at + TAG - 1) == tag then return true end
  end
  return false
end

local function matches(entry)
  for i = TAGS, TAGS + tags - 1 do
    if not has(entry, ARGV[i]) then return false end
  end
  return true
end

local function entries_of(key)
  if newest then return call('ZRANGE', key, last, first, 'BYLEX', 'REV', 'LIMIT', 0, limit) end
  return call('ZRANGE', key, first, last, 'BYLEX', 'LIMIT', 0, limit)
end

for s = TAGS + tags, #ARGV do
  local entries = entries_of(KEYS[STATE + ARGV[s]])
  local reply = {#entries == limit and string.sub(entries[limit], 1, 16) or ''}
  for _, entry in ipairs(entries) do
    if matches(entry) then push(reply, string.sub(entry, 1, 16)) end
  end
  push(replies, reply)
end
return replies
