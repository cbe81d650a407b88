-- Write what changed, and answer -------------------------------------------------------------------------------------

local function write_many(command, key, pairs_list)
    for from = 1, #pairs_list, 1000 do
        redis.call(command, key, unpack(pairs_list, from, math.min(from + 999, #pairs_list)))
    end
end

local function finish(...)
    pump_all()
    for limit, change in pairs(use_change) do
        if uses[limit] <= 0 then
            redis.call('DEL', root .. 'u:' .. limit)
        elseif change ~= 0 then
            redis.call('SET', root .. 'u:' .. limit, uses[limit])
        end
    end
    for limit, change in pairs(wait_change) do
        if waits[limit] <= 0 then
            redis.call('HDEL', root .. 'waits', limit)
        elseif change ~= 0 then
            redis.call('HSET', root .. 'waits', limit, waits[limit])
        end
    end
    for limit, found in pairs(windows) do
        if found.added > 0 then
            local rule, key, order = definition(limit), root .. 'h:' .. limit, root .. 'q:' .. limit
            redis.call('HINCRBY', key, whole(found.bucket), found.added)
            redis.call('HINCRBY', key, 't', found.added)
            if found.bucket ~= found.last then
                redis.call('RPUSH', order, whole(found.bucket))
                redis.call('HSET', key, 'l', whole(found.bucket))
                drop_old(limit, rule, found, 4)
                local keep = math.ceil((rule.period + rule.slack) / 1000) + 1000
                redis.call('PEXPIRE', key, keep)
                redis.call('PEXPIRE', order, keep)
            end
        end
    end
    local rows = {}
    for id, text in pairs(records) do
        rows[#rows + 1] = id
        rows[#rows + 1] = text
    end
    if #rows > 0 then write_many('HSET', root .. 'permit', rows) end
    rows = {}
    for id, till in pairs(expiries) do
        rows[#rows + 1] = till
        rows[#rows + 1] = id
    end
    if #rows > 0 then write_many('ZADD', root .. 'permits', rows) end
    rows = {}
    for id in pairs(unexpire) do rows[#rows + 1] = id end
    if #rows > 0 then write_many('ZREM', root .. 'permits', rows) end
    rows = {}
    for id in pairs(forget) do rows[#rows + 1] = id end
    if #rows > 0 then write_many('HDEL', root .. 'permit', rows) end
    rows = {}
    for id in pairs(unwait) do rows[#rows + 1] = id end
    if #rows > 0 then write_many('HDEL', root .. 'waiter', rows) end
    rows = {}
    for id, text in pairs(places) do
        rows[#rows + 1] = id
        rows[#rows + 1] = text
    end
    if #rows > 0 then write_many('HSET', root .. 'waiter', rows) end
    for limit, count in pairs(refused) do redis.call('HINCRBY', root .. 'refused', name_of(limit), count) end
    local answer = { 'ok', whole(now), revision, more }
    for _, ids in ipairs({ ... }) do
        answer[#answer + 1] = table.concat(ids, ' ')  -- one text: fifty replies cost the client more than the call
    end
    return answer
end
