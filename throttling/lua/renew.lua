-- A worker's heartbeat: its leases live on.
--
-- call.leases   {lease: [ids]}
-- Result        …, lost: ids whose lease is gone or another's
local lost = {}
for lease, ids in pairs(call.leases) do
    load_records(ids)
    for _, id in ipairs(ids) do
        local permit = record_of(id)
        if permit and permit.state == 'L' and permit.token == lease then
            expiries[id] = now + LEASE
        else
            lost[#lost + 1] = id
        end
    end
end
return finish(lost)
