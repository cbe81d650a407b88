-- Waiting ----------------------------------------------------------------------------------------------------------

local places, unwait = {}, {}

local function count_waiting(limit, change)
    waits[limit] = waiting(limit) + change
    wait_change[limit] = (wait_change[limit] or 0) + change
end

local waiters, load_waiters, waiter_of = records_of('waiter', function(id, text)
    local limit, score, since, profile = string.match(text, '^([^\29]*)\29([^\29]*)\29([^\29]*)\29(.*)$')
    return { id = id, limit = limit, score = tonumber(score), since = tonumber(since), profile = profile_of(profile) }
end)

local function park(item, limit)
    local queue, tenant = root .. 'w:' .. limit, item.profile.tenant
    item.limit, item.since = limit, item.since or now
    waiters[item.id] = item
    if redis.call('ZADD', queue .. '|' .. tenant, item.score, item.id) == 1
        and not redis.call('ZSCORE', queue, tenant) then
        local times = redis.call('HMGET', root .. 'v:' .. limit, tenant, '')
        local time = math.max(tonumber(times[1] or '0'), tonumber(times[2] or '0'))
        redis.call('ZADD', queue, time, tenant)
        if is_timed(limit) then redis.call('HSET', root .. 'v:' .. limit, tenant, time) end
    end
    if waiting(limit) == 0 then redis.call('SADD', root .. 'instances:' .. name_of(limit), limit) end
    count_waiting(limit, 1)
    places[item.id] = limit .. GS .. whole(item.score) .. GS .. whole(item.since) .. GS .. item.profile.text
    unwait[item.id] = nil
    to_pump[limit] = true
end

-- Take a step out of the wait set of its limit.
local function leave(item)
    local queue, tenant = root .. 'w:' .. item.limit, item.profile.tenant
    redis.call('ZREM', queue .. '|' .. tenant, item.id)
    if redis.call('ZCARD', queue .. '|' .. tenant) == 0 then redis.call('ZREM', queue, tenant) end
    count_waiting(item.limit, -1)
    waiters[item.id], places[item.id], unwait[item.id] = false, nil, true
    to_pump[item.limit] = true
end

-- Granting ---------------------------------------------------------------------------------------------------------

local take_left, lanes = call.take or 0, {}
for _, lane in ipairs(call.lanes or {}) do lanes[lane] = true end
local granted, taken, parked, refused = {}, {}, {}, {}

local function run_of(profile) return record_of('run:' .. profile.run) end

local function in_the_way(profile, limits, ahead)
    for _, limit in ipairs(limits) do
        if (ahead and waiting(limit) > 0) or room(limit) < 1
            or (is_timed(limit) and share_left(limit, profile.tenant) < 1) then
            return limit
        end
    end
    return nil
end

-- The first limit in the way: the run's come first, so that a run that may not start holds nothing else up.
-- `ahead`: a new step stands behind the steps that wait.
local function blocker(profile, ahead)
    local set = profile.set
    prefetch(set.steps)
    local run = #set.runs > 0 and run_of(profile)
    if #set.runs > 0 and (not run or run.state == 's') then
        local limit = in_the_way(profile, run and run.profile.set.places or set.runs, ahead)
        if limit then return limit end
    end
    return in_the_way(profile, set.steps, ahead)
end

local function charge(profile, limits, starts, count)
    for _, limit in ipairs(limits) do
        local kind = string.sub(limit, 1, 1)
        if kind == 'c' or (not starts and kind ~= 'p') then
            use(limit, count)
            if is_timed(limit) then hold(limit, profile.tenant, count) end
        elseif starts then
            stamp(limit, count)
        end
    end
end

-- Reservations of rate limits become starts.
local function start(limits, count)
    for _, limit in ipairs(limits) do
        local kind = string.sub(limit, 1, 1)
        if kind == 'w' or kind == 'g' then
            use(limit, -count)
            stamp(limit, count)
            to_pump[limit] = true  -- who waits behind a reservation has a time to wait for only now
        end
    end
end

-- Hold the places of a step's run. Its token is the step that alone has started it, until another one of it starts.
local function hold_run(profile, starts, score, id)
    local run = run_of(profile)
    if not run then
        charge(profile, profile.set.runs, starts, 1)
        save({ id = 'run:' .. profile.run, state = starts and 'h' or 'r', token = starts and id or '', stamp = now,
            score = whole(score), profile = profile }, not starts and now + RESERVATION or nil)
    elseif run.state == 's' then
        charge(run.profile, run.profile.set.places, starts, 1)
        run.state = 'h'
        save(run)
    elseif starts and run.state == 'r' then
        start(profile.set.runs, 1)
        run.state, run.token, run.stamp = 'h', id, now
        save(run)
    elseif starts and run.token ~= '' then
        run.token = ''
        save(run)
    end
end

-- Grant what was looked at before: reserved, or started here where the caller can take it. `by`: the limit that hands
-- it over, which bills it itself.
local function grant(item, by)
    local profile = item.profile
    local starts = take_left > 0 and lanes[profile.lane] or false
    if #profile.set.runs > 0 then hold_run(profile, starts, item.score, item.id) end
    charge(profile, profile.set.steps, starts, 1)
    for _, limit in ipairs(profile.set.steps) do
        if limit ~= by and is_timed(limit) then bill_starts(limit, profile, 1) end
    end
    save({ id = item.id, state = starts and 'L' or 'r', token = starts and call.lease or '', stamp = now,
        score = whole(item.score), profile = profile }, now + (starts and LEASE or RESERVATION))
    count_step(profile, 1)
    if starts then
        take_left = take_left - 1
        taken[#taken + 1] = item.id
    else
        granted[#granted + 1] = item.id
    end
end

-- Hand over what the limit has room for: the tenant that had least comes first, within it the earliest step. Of a limit
-- that is shared by time, the one that holds all it may is passed over: where there is room, there is one such at most.
local function pump(limit)
    local queue, timed, all_full = root .. 'w:' .. limit, is_timed(limit), false
    while pops_left > 0 and waiting(limit) > 0 and room(limit) >= 1 do
        local first = redis.call('ZRANGE', queue, 0, timed and 1 or 0, 'WITHSCORES')
        local at = 1
        if timed and first[1] and share_left(limit, first[1]) < 1 then at = 3 end
        if at == 3 and not first[3] then
            all_full = true
            break
        end
        pops_left = pops_left - 1
        local tenant, time = first[at], tonumber(first[at + 1] or '0')
        local popped = tenant and redis.call('ZPOPMIN', queue .. '|' .. tenant) or {}
        if not popped[1] then
            if not tenant then
                wait_change[limit] = (wait_change[limit] or 0) - waits[limit]
                waits[limit] = 0
                break
            end
            redis.call('ZREM', queue, tenant)
        else
            local item = waiter_of(popped[1])
            local emptied = redis.call('ZCARD', queue .. '|' .. tenant) == 0
            if emptied then redis.call('ZREM', queue, tenant) end
            count_waiting(limit, -1)
            if item then
                waiters[item.id], places[item.id], unwait[item.id] = false, nil, true
                local other = blocker(item.profile)
                if other then
                    park(item, other)
                else
                    grant(item, limit)
                    local after = time + START_COSTS / item.profile.weight
                    redis.call('HSET', root .. 'v:' .. limit, tenant, after, '', time)
                    if not emptied then redis.call('ZADD', queue, after, tenant) end
                end
            end
        end
    end
    if waiting(limit) > 0 then
        if room(limit) >= 1 and not all_full then
            more = 1
            redis.call('ZADD', root .. 'timers', 0, limit)
        else
            local due = next_free(limit)
            if due then
                redis.call('ZADD', root .. 'timers', due, limit)
            else
                redis.call('ZREM', root .. 'timers', limit)
            end
        end
    elseif wait_change[limit] then
        redis.call('ZREM', root .. 'timers', limit)
        redis.call('SREM', root .. 'instances:' .. name_of(limit), limit)
        if not timed then
            redis.call('DEL', root .. 'v:' .. limit)
        elseif in_use(limit) <= 0 then
            forget_shares(limit)
        end
    end
end

local function pump_all()
    while next(to_pump) do
        local batch = {}
        for limit in pairs(to_pump) do batch[#batch + 1] = limit end
        to_pump = {}
        prefetch(batch)
        table.sort(batch)
        for _, limit in ipairs(batch) do
            if waiting(limit) > 0 or wait_change[limit] then pump(limit) end
        end
    end
end

local sequence = 0

-- Ask for a permit, with the place that the step had before, where it had one.
local function admit_one(item)
    if waiter_of(item.id) then
        parked[#parked + 1] = item.id
        return
    end
    local permit = record_of(item.id)
    if permit then
        if permit.state == 'r' and (call.take or 0) == 0 then
            save(permit, now + RESERVATION)
            granted[#granted + 1] = item.id
            return
        end
        if permit.state ~= 'L' or permit.token == item.token then item.score = score_of(permit) end
        release(permit)
    end
    local run = #item.profile.set.runs > 0 and run_of(item.profile)
    if run and run.state == 's' then item.score = math.min(item.score, score_of(run)) end
    local limit = blocker(item.profile, true)
    if limit then
        refused[limit] = (refused[limit] or 0) + 1
        parked[#parked + 1] = item.id
        park(item, limit)
        if is_timed(limit) and room(limit) >= 1 then pump(limit) end  -- who waits there may all have their shares
    else
        grant(item)
    end
end

-- A whole group of newcomers for which all limits have room, and nobody stands ahead: counted at once.
local function admit_together(profile, steps)
    if #profile.set.runs > 0 then return false end
    for _, limit in ipairs(profile.set.steps) do
        if waiting(limit) > 0 or room(limit) < #steps
            or (is_timed(limit) and share_left(limit, profile.tenant) < #steps) then
            return false
        end
    end
    for _, step in ipairs(steps) do
        if type(step) == 'table' or known[step] or waiters[step] then return false end
    end
    local here = lanes[profile.lane] and math.min(take_left, #steps) or 0
    take_left = take_left - here
    if here > 0 then charge(profile, profile.set.steps, true, here) end
    if here < #steps then charge(profile, profile.set.steps, false, #steps - here) end
    for _, limit in ipairs(profile.set.steps) do
        if is_timed(limit) then bill_starts(limit, profile, #steps) end
    end
    local moment, rest = whole(now), GS .. profile.text
    local begun = 'L' .. GS .. (call.lease or '') .. GS .. moment .. GS .. moment
    local reserved = 'r' .. GS .. GS .. moment .. GS .. moment
    for index, id in ipairs(steps) do
        sequence = sequence + 1
        local ending = '+' .. sequence .. rest
        known[id] = nil
        if index <= here then
            records[id], expiries[id] = begun .. ending, now + LEASE
            taken[#taken + 1] = id
        else
            records[id], expiries[id] = reserved .. ending, now + RESERVATION
            granted[#granted + 1] = id
        end
    end
    return true
end

-- Ask for permits: groups of [set, tenant, weight, lane, run, steps]; a step is its id, or
-- [id, head start in µs, the lease under which this caller held it until now, so that it keeps its place].
local function admit_groups(groups)
    local ids = {}
    for _, group in ipairs(groups) do
        for _, step in ipairs(group[6]) do ids[#ids + 1] = type(step) == 'table' and step[1] or step end
    end
    if #ids == 0 then return end
    load_records(ids)
    load_waiters(ids)
    for _, group in ipairs(groups) do
        local profile = profile_of(table.concat({ group[2], group[3], group[4], group[5], group[1] }, GS))
        prefetch(profile.set.steps)
        prefetch(profile.set.runs)
        local steps = admit_together(profile, group[6]) and {} or group[6]
        for _, step in ipairs(steps) do
            sequence = sequence + 1
            if type(step) == 'table' then
                admit_one({ id = step[1], profile = profile, score = now + sequence - step[2], token = step[3] })
            else
                admit_one({ id = step, profile = profile, score = now + sequence, token = '' })
            end
        end
    end
end
