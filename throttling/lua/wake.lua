-- The timers: limits whose waiters may start by the passing of time, and permits that have expired.
--
-- call.define   {name: definition}: values that were changed
-- Result        …, granted, due: when there is something to do next, waiting: at how many limits somebody waits
define(call.define)
expire()
local ripe = redis.call('ZRANGEBYSCORE', root .. 'timers', '-inf', now, 'LIMIT', 0, 100)
if #ripe == 100 then more = 1 end
for _, limit in ipairs(ripe) do
    if waiting(limit) > 0 then
        to_pump[limit] = true
    else
        redis.call('ZREM', root .. 'timers', limit)
    end
end
if any_pause then
    local ends = redis.call('HGETALL', root .. 'pauses')
    local open = 0
    for index = 1, #ends, 2 do
        if tonumber(ends[index + 1]) > now then
            open = open + 1
        else
            redis.call('HDEL', root .. 'pauses', ends[index])
        end
    end
    if open == 0 then redis.call('HDEL', prefix .. 'epoch', 'paused') end
end
local answer = finish(granted)
local timer = redis.call('ZRANGE', root .. 'timers', 0, 0, 'WITHSCORES')
local permit = redis.call('ZRANGE', root .. 'permits', 0, 0, 'WITHSCORES')
answer[#answer + 1] = whole(math.min(tonumber(timer[2] or '9e15'), tonumber(permit[2] or '9e15')))
answer[#answer + 1] = redis.call('HLEN', root .. 'waits')
return answer
