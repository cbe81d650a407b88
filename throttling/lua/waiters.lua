-- Who waits at a limit.
--
-- call.limit   the key of a limit
-- Result       …, [[tenant, how many of its steps or runs wait], …]: 200 at most
local queue = root .. 'w:' .. call.limit
local rows = {}
for _, tenant in ipairs(redis.call('ZRANGE', queue, 0, 199)) do
    rows[#rows + 1] = { tenant, redis.call('ZCARD', queue .. '|' .. tenant) }
end
return { 'ok', whole(now), revision, more, rows }
