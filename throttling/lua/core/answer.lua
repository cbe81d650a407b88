-- Write what changed, and answer -------------------------------------------------------------------------------------

local function write_rows(command, key, rows)
    for from = 1, #rows, 1000 do
        redis.call(command, key, unpack(rows, from, math.min(from + 999, #rows)))
    end
end

local function write_map(command, key, map, value_first)
    local rows = {}
    for id, value in pairs(map) do
        rows[#rows + 1] = value_first and value or id
        rows[#rows + 1] = value_first and id or value
    end
    write_rows(command, key, rows)
end

local function write_set(command, key, set)
    local rows = {}
    for id in pairs(set) do rows[#rows + 1] = id end
    write_rows(command, key, rows)
end

local function finish(...)
    pump_all()
    for limit, change in pairs(use_change) do
        if uses[limit] <= 0 then
            redis.call('DEL', root .. 'u:' .. limit)
            if is_timed(limit) and waiting(limit) <= 0 then forget_shares(limit) end
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
        local rule = definition(limit)
        if found.added > 0 and put(limit, rule, found, found.bucket, found.added) then
            drop_old(limit, rule, found, 4)
        end
    end
    for run, change in pairs(run_steps) do
        if redis.call('HINCRBY', root .. 'of_run', run, change) < 1 then run_over[run] = true end
    end
    write_set('HDEL', root .. 'of_run', run_over)
    write_map('HSET', root .. 'permit', records)
    write_map('ZADD', root .. 'permits', expiries, true)
    write_set('ZREM', root .. 'permits', unexpire)
    write_set('HDEL', root .. 'permit', forget)
    write_set('HDEL', root .. 'waiter', unwait)
    write_map('HSET', root .. 'waiter', places)
    for limit, count in pairs(refused) do redis.call('HINCRBY', root .. 'refused', name_of(limit), count) end
    local answer = { 'ok', whole(now), revision, more }
    for _, ids in ipairs({ ... }) do
        answer[#answer + 1] = table.concat(ids, ' ')  -- one text: fifty replies cost the client more than the call
    end
    return answer
end
