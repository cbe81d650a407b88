-- Why a step waits, and how limits stand.
--
-- call.id       a step (may be missing)
-- call.define   {name: definition}: of limits that nobody may have asked for yet
-- call.limits   keys of limits to describe; beside them come those with waiters (200 at most)
-- Result        …, waiter: {} or {limit, since, score, place in its tenant's queue, waiting of its tenant, tenants
--               waiting, permits of other tenants that come before}, permit: {} or {state, stamp, expires},
--               limits: [[limit, bound, period, in use, starts in the window, waiting, refused, next free, paused
--               until, mean hold], …]
define(call.define)
local waiter, permit = {}, {}
local wanted, seen = {}, {}
local function want(limit)
    if not seen[limit] then
        seen[limit] = true
        wanted[#wanted + 1] = limit
    end
end
if call.id then
    local found = waiter_of(call.id)
    if found then
        local queue = root .. 'w:' .. found.limit
        local place = redis.call('ZRANK', queue .. '|' .. found.profile.tenant, call.id) or 0
        local others = 0
        for _, tenant in ipairs(redis.call('ZRANGE', queue, 0, 999)) do
            if tenant ~= found.profile.tenant then
                others = others + math.min(place + 1, redis.call('ZCARD', queue .. '|' .. tenant))
            end
        end
        waiter = { found.limit, whole(found.since), whole(found.score), place + 1,
            redis.call('ZCARD', queue .. '|' .. found.profile.tenant), redis.call('ZCARD', queue), others }
        want(found.limit)
    end
    local held = record_of(call.id)
    if held then permit = { held.state, whole(held.stamp), redis.call('ZSCORE', root .. 'permits', call.id) or '' } end
end
for _, limit in ipairs(call.limits or {}) do want(limit) end
if call.all then
    local cursor, found = '0', 0
    repeat
        local page = redis.call('HSCAN', root .. 'waits', cursor, 'COUNT', 200)
        cursor = page[1]
        for index = 1, #page[2], 2 do
            want(page[2][index])
            found = found + 1
        end
    until cursor == '0' or found >= 200
end
local limits = {}
for _, limit in ipairs(wanted) do
    local rule, name = definition(limit), name_of(limit)
    local total = 0
    if rule.kind == 'w' then
        local found = window(limit, rule)
        drop_old(limit, rule, found, 2000)
        total = found.total
    end
    limits[#limits + 1] = { limit, rule.limit or 0, rule.period or 0, in_use(limit), total, waiting(limit),
        tonumber(redis.call('HGET', root .. 'refused', name) or '0'), whole(next_free(limit) or 0),
        whole(paused_until(limit) or 0), tonumber(redis.call('HGET', root .. 'hold', name) or '0') }
end
return { 'ok', whole(now), revision, more, waiter, permit, limits }
