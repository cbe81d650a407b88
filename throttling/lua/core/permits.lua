-- Permits ----------------------------------------------------------------------------------------------------------
-- States (`l` and `L` differ): r reserved (in the broker), l lapsed (so long in the broker that only its place in the
-- queue is still held),
-- L leased (executing), h held (a run's slots: they never expire, Postgres is their truth), s sleeps (a run that only
-- waits: it holds its slots but for its place among all runs).
-- A record is state, token, stamp, score (as text; `n+i`: the i-th of a group at n), and its profile (tenant, weight,
-- lane, run, set), which a whole group shares.

local profiles = {}
local function profile_of(text)
    local found = profiles[text]
    if not found then
        local f = split(text, GS)
        found = { text = text, tenant = f[1], weight = tonumber(f[2]), lane = f[3], run = f[4], set = parse_set(f[5]) }
        profiles[text] = found
    end
    return found
end

local expiries, unexpire = {}, {}
local records, forget = {}, {}

-- A hash of records: what was read of it (false: there is none), how to read many, and how to read one.
local function records_of(name, understand)
    local read = {}
    local function keep(id, text)
        read[id] = text and understand(id, text) or false
        return read[id]
    end
    local function load(ids)
        for from = 1, #ids, 1000 do
            local last = math.min(from + 999, #ids)
            local texts = redis.call('HMGET', root .. name, unpack(ids, from, last))
            for index = from, last do keep(ids[index], texts[index - from + 1]) end
        end
    end
    local function one(id)
        if read[id] == nil then return keep(id, redis.call('HGET', root .. name, id)) end
        return read[id]
    end
    return read, load, one
end

local known, load_records, record_of = records_of('permit', function(id, text)
    local state, token, stamped, score, profile = string.match(text,
        '^(%a)\29([^\29]*)\29([^\29]*)\29([^\29]*)\29(.*)$')
    return {
        id = id, state = state, token = token, stamp = tonumber(stamped), score = score, profile = profile_of(profile),
    }
end)

local function score_of(permit)
    local base, position = string.match(permit.score, '^(%d+)%+?(%d*)$')
    return tonumber(base) + (tonumber(position) or 0)
end

local function save(permit, expires)
    local id = permit.id
    known[id] = permit
    records[id] = permit.state .. GS .. permit.token .. GS .. whole(permit.stamp) .. GS .. permit.score .. GS
        .. permit.profile.text
    forget[id] = nil
    expiries[id] = expires
    unexpire[id] = not expires or nil
end

-- How many steps of a run have permits: only a run of which none has gives its place up.
local run_steps, run_over = {}, {}
local function count_step(profile, change)
    if #profile.set.runs > 0 then run_steps[profile.run] = (run_steps[profile.run] or 0) + change end
end

local function steps_of_run(run)
    return tonumber(redis.call('HGET', root .. 'of_run', run) or '0') + (run_steps[run] or 0)
end

local function drop(permit)
    local id = permit.id
    if string.sub(id, 1, 4) ~= 'run:' then count_step(permit.profile, -1) end
    known[id] = false
    records[id], expiries[id] = nil, nil
    forget[id], unexpire[id] = true, true
end

-- Count anew how many places of a queue each tenant holds. Needed where its shares have changed: a process of a release
-- that counted by other rules may have left wrong numbers, and one that is too high keeps a tenant out for good.
-- Only `define` calls it, before anything else is changed: what is stored is the truth.
recount = function(limit)
    redis.call('DEL', root .. 'o:' .. limit)
    holdings[limit] = nil
    if not is_timed(limit) then return end
    local cursor, counts, seen = '0', {}, {}
    repeat
        local page = redis.call('HSCAN', root .. 'permit', cursor, 'COUNT', 1000)
        cursor = page[1]
        for index = 1, #page[2], 2 do
            local id, text = page[2][index], page[2][index + 1]
            if not seen[id] and string.sub(id, 1, 4) ~= 'run:' then
                local profile = profile_of(string.match(text, '^%a\29[^\29]*\29[^\29]*\29[^\29]*\29(.*)$'))
                if 'c:queue:' .. profile.lane == limit then
                    counts[profile.tenant] = (counts[profile.tenant] or 0) + 1
                end
            end
            seen[id] = true
        end
    until cursor == '0'
    for tenant, count in pairs(counts) do hold(limit, tenant, count) end
end

local to_pump = {}

-- Give back what `count` permits like this one hold of these limits.
local function give_back(permit, limits, except, count)
    prefetch(limits)
    for _, limit in ipairs(limits) do
        if limit ~= except then
            local kind = string.sub(limit, 1, 1)
            if kind == 'c' then
                use(limit, -count)
                if is_timed(limit) then hold(limit, permit.profile.tenant, -count) end
                if permit.state == 'L' and waiting(limit) > 0 then
                    local name = name_of(limit)
                    local before = tonumber(redis.call('HGET', root .. 'hold', name) or '0')
                    local held = now - permit.stamp
                    redis.call('HSET', root .. 'hold', name, before == 0 and held or before * 0.9 + held * 0.1)
                end
            elseif kind ~= 'p' and permit.state == 'r' then
                use(limit, -count)
            end
            to_pump[limit] = true
        end
    end
end

local function lane_limit(permit) return 'c:queue:' .. permit.profile.lane end

local function settle_time(permit)
    if string.sub(permit.id, 1, 4) == 'run:' then return end
    local limit = lane_limit(permit)
    if is_timed(limit) then bill_end(limit, permit) end
end

local function give_all_back(permit, count)
    if permit.state == 's' then
        for _, limit in ipairs(permit.profile.set.runs) do
            if not is_place(limit) then give_back(permit, { limit }, nil, count) end
        end
    elseif string.sub(permit.id, 1, 4) == 'run:' then
        give_back(permit, permit.profile.set.runs, nil, count)
    elseif permit.state == 'l' then
        give_back(permit, { lane_limit(permit) }, nil, count)
    else
        give_back(permit, permit.profile.set.steps, nil, count)
    end
end

local function release(permit)
    settle_time(permit)
    give_all_back(permit, 1)
    drop(permit)
end

-- Release many: what permits of one kind hold is given back together.
local function release_many(permits)
    local alike = { r = {}, l = {}, L = {}, h = {}, s = {} }
    for _, permit in ipairs(permits) do
        settle_time(permit)
        local same = alike[permit.state][permit.profile]
        if same then same.count = same.count + 1
        else alike[permit.state][permit.profile] = { permit = permit, count = 1 } end
        drop(permit)
    end
    for _, kind in pairs(alike) do
        for _, same in pairs(kind) do give_all_back(same.permit, same.count) end
    end
end

-- The permits among these that are held under the leases of the caller: {lease: [ids]}.
local function held_under(leases)
    local held = {}
    for lease, ids in pairs(leases) do
        load_records(ids)
        for _, id in ipairs(ids) do
            local permit = known[id]
            if permit and permit.state == 'L' and permit.token == lease then held[#held + 1] = permit end
        end
    end
    return held
end

-- A run that only waits gives its place up, where no step of it has come since then.
local function put_to_sleep(run)
    local permit = record_of('run:' .. run)
    if permit and permit.state == 'h' and #permit.profile.set.places > 0 and steps_of_run(run) < 1 then
        give_back(permit, permit.profile.set.places, nil, 1)
        permit.state = 's'
        save(permit)
    end
end

-- Expired: a lease's holder is lost; a reservation keeps its place in the broker's queue and nothing else.
local function expire()
    local ids = redis.call('ZRANGEBYSCORE', root .. 'permits', '-inf', now, 'LIMIT', 0, 200)
    if #ids == 0 then return end
    if #ids == 200 then more = 1 end
    load_records(ids)
    for _, id in ipairs(ids) do
        local permit = record_of(id)
        if not permit then
            unexpire[id] = true
        elseif permit.state == 'r' and string.sub(id, 1, 4) ~= 'run:' then
            give_back(permit, permit.profile.set.steps, lane_limit(permit), 1)
            permit.state = 'l'
            save(permit)
        else
            release(permit)
        end
    end
end
