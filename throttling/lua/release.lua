-- Give permits back, hand what they held over to those who wait, and ask for permits for the steps that follow.
--
-- call.leases   {lease: [ids]}: permits held under a lease; another holder's stay untouched
-- call.unused   [ids]: steps that will not start after all: their reservations and places
-- call.runs     [ids]: runs that have ended: their slots
-- call.sleepers [ids]: runs that only wait: their places among all runs
-- call.pauses   [[limit, µs], …]: limits that the other side wants paused for so long
-- and all of `admit`: define, groups, take, lanes, lease
-- Result        …, granted, taken, parked
define(call.define)
local ended = held_under(call.leases)
for _, id in ipairs(call.unused) do
    local permit, waiter = record_of(id), waiter_of(id)
    if permit and (permit.state == 'r' or permit.state == 'l') then ended[#ended + 1] = permit end
    if waiter then leave(waiter) end
end
for _, run in ipairs(call.runs) do
    local permit = record_of('run:' .. run)
    if permit then ended[#ended + 1] = permit end
end
release_many(ended)
for _, run in ipairs(call.sleepers or {}) do put_to_sleep(run) end
for _, pause in ipairs(call.pauses) do
    local till = math.max(now + pause[2], tonumber(redis.call('HGET', root .. 'pauses', pause[1]) or '0'))
    redis.call('HSET', root .. 'pauses', pause[1], whole(till))
    redis.call('HSET', prefix .. 'epoch', 'paused', '1')
    any_pause = true
end
pump_all()
admit_groups(call.groups)
return finish(granted, taken, parked)
