-- Rebuild the state of a new epoch from what Postgres knows. Only while the epoch is not open.
--
-- call.define   {name: definition}
-- call.leases   [[id, lease, tenant, weight, lane, run, set], …]: executing steps
-- call.runs     [[run, tenant, weight, set, sleeps], …]: live runs that hold slots; one that sleeps (1) holds no place
-- call.starts   [[limit, age in µs, count], …] oldest first: starts within the windows
-- Result        …
define(call.define)
local function count(profile, limits)
    for _, limit in ipairs(limits) do
        if string.sub(limit, 1, 1) == 'c' then use(limit, 1) end
        if is_timed(limit) then
            hold(limit, profile.tenant, 1)
            bill_starts(limit, profile, 1)
        end
    end
end
for _, row in ipairs(call.leases) do
    local profile = profile_of(table.concat({ row[3], row[4], row[5], row[6], row[7] }, GS))
    if not record_of(row[1]) then
        count(profile, profile.set.steps)
        count_step(profile, 1)
        local permit = { id = row[1], state = 'L', token = row[2], stamp = now, score = whole(now), profile = profile }
        save(permit, now + LEASE)
    end
end
for _, row in ipairs(call.runs) do
    local profile = profile_of(table.concat({ row[2], row[3], '', row[1], row[4] }, GS))
    if not record_of('run:' .. row[1]) then
        for _, limit in ipairs(profile.set.runs) do
            if row[5] ~= 1 or not is_place(limit) then count(profile, { limit }) end
        end
        save({
            id = 'run:' .. row[1], state = row[5] == 1 and 's' or 'h', token = '', stamp = now, score = whole(now),
            profile = profile,
        })
    end
end
for _, row in ipairs(call.starts) do
    local limit = row[1]
    local rule = definition(limit)
    local at = now - row[2]
    if rule.kind == 'w' and row[2] < rule.period + rule.slack then
        local found = window(limit, rule)
        put(limit, rule, found, math.max(math.ceil(at / rule.bucket) * rule.bucket, found.last), row[3])
        found.total = found.total + row[3]
    elseif rule.kind == 'g' then
        local each = rule.period / rule.limit
        local before = tonumber(redis.call('GET', root .. 'g:' .. limit) or '0')
        local till = math.max(at, before) + row[3] * each
        if till > now then
            redis.call('SET', root .. 'g:' .. limit, whole(till), 'PX', math.ceil((till - now) / 1000) + 1000)
        end
    end
end
return finish()
