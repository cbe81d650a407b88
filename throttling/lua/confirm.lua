-- Reservations become leases at the start of their steps; from now on the starts count in the windows.
--
-- call.lease   the lease under which the steps were claimed
-- call.ids     the steps
-- call.again   true for steps that this lease holds already and whose start was delayed: they start now, not before
-- Result       …, granted (others, by what this gave back), unknown: ids without a permit to start
load_records(call.ids)
local unknown, alike = {}, {}

-- Move a start from its stamp to now in these limits; false where one of them has no room for that.
local function restamp(limits, stamped)
    for _, limit in ipairs(limits) do
        local rule = definition(limit)
        if rule.kind == 'w' then
            local found = window(limit, rule)
            local bucket = whole(math.ceil(stamped / rule.bucket) * rule.bucket)
            local counted = tonumber(redis.call('HGET', root .. 'h:' .. limit, bucket) or '0')
            if counted > 0 then
                redis.call('HINCRBY', root .. 'h:' .. limit, bucket, -1)
                redis.call('HINCRBY', root .. 'h:' .. limit, 't', -1)
                found.total = found.total - 1
            elseif room(limit) < 1 then
                return false
            end
            stamp(limit, 1)
        elseif rule.kind == 'g' and now - stamped > rule.slack then
            if room(limit) < 1 then return false end
            stamp(limit, 1)
        end
    end
    return true
end

-- The start of the step, and that of its run where it alone has started that.
local function restart(permit)
    if not restamp(permit.profile.set.steps, permit.stamp) then return false end
    local run = #permit.profile.set.runs > 0 and run_of(permit.profile)
    if run and run.state == 'h' and run.token == permit.id then
        if not restamp(permit.profile.set.runs, run.stamp) then return false end
        run.stamp = now
        save(run)
    end
    permit.stamp = now
    save(permit, now + LEASE)
    return true
end

for _, id in ipairs(call.ids) do
    local permit = record_of(id)
    local mine = permit and permit.state == 'L' and permit.token == call.lease
    if mine and call.again then
        if not restart(permit) then unknown[#unknown + 1] = id end
    elseif permit and not call.again and permit.state == 'r'
        and (#permit.profile.set.runs == 0 or run_of(permit.profile)) then
        if #permit.profile.set.runs > 0 then hold_run(permit.profile, true, score_of(permit), id) end
        alike[permit.profile] = (alike[permit.profile] or 0) + 1
        permit.state, permit.token, permit.stamp = 'L', call.lease, now
        save(permit, now + LEASE)
    elseif not mine then
        unknown[#unknown + 1] = id
    end
end
for profile, count in pairs(alike) do
    prefetch(profile.set.steps)
    start(profile.set.steps, count)
end
return finish(granted, unknown)
