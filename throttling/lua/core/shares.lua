-- Shares in time -----------------------------------------------------------------------------------------------------
-- Of a queue that is shared by time (its definition says so) each tenant gets the same time, not the same number of
-- steps; and while the definition keeps places free, never all places: another's step finds one at once. A start costs
-- a second of the tenant's virtual time; the end corrects that to the time for which the place was really held, by the
-- store's clock.

local START_COSTS = 1  -- seconds

local function is_timed(limit) return string.sub(limit, 1, 8) == 'c:queue:' and definition(limit).timed end

local holdings = {}

-- How many places of the limit a tenant holds.
local function holding(limit, tenant)
    local of = holdings[limit]
    if not of then
        of = {}
        holdings[limit] = of
    end
    if not of[tenant] then of[tenant] = tonumber(redis.call('HGET', root .. 'o:' .. limit, tenant) or '0') end
    return of[tenant]
end

local function hold(limit, tenant, count)
    local after = math.max(0, holding(limit, tenant) + count)
    holdings[limit][tenant] = after
    if after > 0 then
        redis.call('HSET', root .. 'o:' .. limit, tenant, after)
    else
        redis.call('HDEL', root .. 'o:' .. limit, tenant)
    end
end

-- How many more places of the limit the tenant may hold, whatever others do.
local function share_left(limit, tenant)
    local rule = definition(limit)
    -- What a process of the release before did not count is in nobody's way.
    if rule.kept == 0 then return math.huge end
    return math.max(1, rule.limit - rule.kept) - holding(limit, tenant)
end

local function set_time(limit, tenant, time)
    redis.call('HSET', root .. 'v:' .. limit, tenant, time)
    if redis.call('ZSCORE', root .. 'w:' .. limit, tenant) then
        redis.call('ZADD', root .. 'w:' .. limit, time, tenant)
    end
end

-- Starts that were not handed over by the limit itself.
local function bill_starts(limit, profile, count)
    local times = redis.call('HMGET', root .. 'v:' .. limit, profile.tenant, '')
    local own, served = tonumber(times[1] or '0'), tonumber(times[2] or '0')
    for _ = 1, count do
        served = math.max(own, served)
        own = served + START_COSTS / profile.weight
    end
    redis.call('HSET', root .. 'v:' .. limit, '', served)
    set_time(limit, profile.tenant, own)
end

-- The end of a permit: what it really cost. One that never started costs nothing.
local function bill_end(limit, permit)
    local time = redis.call('HGET', root .. 'v:' .. limit, permit.profile.tenant)
    if not time then return end
    local used = permit.state == 'L' and (now - permit.stamp) / 1000000 or 0
    set_time(limit, permit.profile.tenant, tonumber(time) + (used - START_COSTS) / permit.profile.weight)
end

-- Nothing is held and nobody waits: nobody owes anybody anything.
local function forget_shares(limit)
    redis.call('DEL', root .. 'v:' .. limit, root .. 'o:' .. limit)
    holdings[limit] = nil
end
