-- Windows: exact, since a start counts from the end of its bucket and a bucket leaves only as a whole ----------------

local windows = {}

-- Count starts in a bucket: the newest, or a newer one (then it answers true).
local function put(limit, rule, found, bucket, count)
    local key, order = root .. 'h:' .. limit, root .. 'q:' .. limit
    redis.call('HINCRBY', key, whole(bucket), count)
    redis.call('HINCRBY', key, 't', count)
    if bucket == found.last then return false end
    found.last = bucket
    redis.call('RPUSH', order, whole(bucket))
    redis.call('HSET', key, 'l', whole(bucket))
    local keep = math.ceil((rule.period + rule.slack) / 1000) + 1000
    redis.call('PEXPIRE', key, keep)
    redis.call('PEXPIRE', order, keep)
    return true
end

local function window(limit, rule)
    local found = windows[limit]
    if found then return found end
    local key = root .. 'h:' .. limit
    local fields = redis.call('HMGET', key, 't', 'l')
    found = { total = tonumber(fields[1] or '0'), last = tonumber(fields[2] or '0'), added = 0 }
    windows[limit] = found
    if found.last > now + math.max(rule.bucket, 1000000) then
        -- The clock has gone back: count all starts as if they were now.
        local bucket = math.ceil(now / rule.bucket) * rule.bucket
        redis.call('DEL', key, root .. 'q:' .. limit)
        found.last = 0
        if found.total > 0 then put(limit, rule, found, bucket, found.total) end
    end
    return found
end

local function drop_old(limit, rule, found, most)
    local edge, key, order = now - rule.period - rule.slack, root .. 'h:' .. limit, root .. 'q:' .. limit
    while most > 0 do
        most = most - 1
        local head = redis.call('LINDEX', order, 0)
        if not head or tonumber(head) > edge then return end
        redis.call('LPOP', order)
        local count = tonumber(redis.call('HGET', key, head) or '0')
        redis.call('HDEL', key, head)
        if count > 0 then redis.call('HINCRBY', key, 't', -count) end
        found.total = found.total - count
    end
end

local function arrival(limit)
    return math.max(now, tonumber(redis.call('GET', root .. 'g:' .. limit) or '0'))
end

local function paused_until(limit)
    if not any_pause then return nil end
    local till = tonumber(redis.call('HGET', root .. 'pauses', limit) or '0')
    if till > now then return till end
    if till > 0 then redis.call('HDEL', root .. 'pauses', limit) end
    return nil
end

-- How many more may start now.
local function room(limit)
    local rule = definition(limit)
    if paused_until(limit) then return 0 end
    if rule.kind == 'c' then return rule.limit - in_use(limit) end
    if rule.kind == 'p' then return math.huge end
    if rule.kind == 'g' then
        local each = rule.period / rule.limit
        return math.floor((now + (rule.burst - 1) * each - arrival(limit)) / each + 1e-9) + 1 - in_use(limit)
    end
    local found = window(limit, rule)
    local free = rule.limit - found.total - in_use(limit)
    if free < 1 then
        drop_old(limit, rule, found, 2000)
        free = rule.limit - found.total - in_use(limit)
    end
    return free
end

-- When there may be room again by the passing of time alone; nothing for a limit that waits for a release.
local function next_free(limit)
    local rule = definition(limit)
    local till = paused_until(limit)
    if till then return till end
    if rule.kind == 'w' then
        local head = redis.call('LINDEX', root .. 'q:' .. limit, 0)
        if windows[limit] and windows[limit].added > 0 and not head then head = whole(windows[limit].bucket) end
        return head and tonumber(head) + rule.period + rule.slack
    elseif rule.kind == 'g' then
        local each = rule.period / rule.limit
        return math.ceil(arrival(limit) + in_use(limit) * each - (rule.burst - 1) * each)
    end
    return nil
end

-- A start: from now on it counts in the windows.
local function stamp(limit, count)
    local rule = definition(limit)
    if rule.kind == 'w' then
        local found = window(limit, rule)
        found.total = found.total + count
        found.added = found.added + count
        found.bucket = math.max(math.ceil(now / rule.bucket) * rule.bucket, found.last)
    elseif rule.kind == 'g' then
        local each = rule.period / rule.limit
        local till = arrival(limit) + count * each
        redis.call('SET', root .. 'g:' .. limit, whole(till), 'PX', math.ceil((till - now) / 1000) + 1000)
    end
end
