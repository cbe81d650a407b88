-- Take a permit for a step whose predecessor the caller still holds, or leave everything as it is: nobody is parked,
-- and nobody who waits is overtaken. The caller asks while the outcome of the predecessor is being recorded. It starts
-- the step only when that is committed. The two never execute at once, so where a concurrency limit of both is full,
-- the step takes the predecessor's place: until that is given back, the limit is in use once more than it allows, and
-- admits nobody.
--
-- call.define  {name: definition}
-- call.leases  {lease: [ids]}: permits to give back before, as in `release`
-- call.next    [set, tenant, weight, lane, run, id]
-- call.lease   the lease under which the step starts
-- call.held    [the predecessor, the lease under which it is held]
-- Result       …, granted (others, by what was given back), taken (the step, or nobody), parked (nobody)
define(call.define)
release_many(held_under(call.leases))
pump_all()
local text, tenant, weight, lane, run, id = unpack(call.next)
local profile = profile_of(table.concat({ tenant, weight, lane, run, text }, GS))
prefetch(profile.set.steps)

-- Of the predecessor's permit: the concurrency limits in which the step may take its place.
local function places_of_predecessor()
    local permit, found = record_of(call.held[1]), {}
    if permit and permit.state == 'L' and permit.token == call.held[2] then
        for _, limit in ipairs(permit.profile.set.steps) do found[limit] = string.sub(limit, 1, 1) == 'c' and 1 or 0 end
    end
    return found
end

local function may_start()
    if record_of(id) or waiter_of(id) then return false end
    local holder = #profile.set.runs > 0 and run_of(profile)
    if #profile.set.runs > 0 and not (holder and holder.state == 'h') then return false end
    local places = places_of_predecessor()
    for _, limit in ipairs(profile.set.steps) do
        if waiting(limit) > 0 or is_timed(limit) or paused_until(limit) or room(limit) + (places[limit] or 0) < 1 then
            return false
        end
    end
    return true
end

if may_start() then
    charge(profile, profile.set.steps, true, 1)
    save({ id = id, state = 'L', token = call.lease, stamp = now, score = whole(now), profile = profile }, now + LEASE)
    count_step(profile, 1)
    taken[1] = id
end
return finish(granted, taken, parked)
