-- The shared part of every verb: Python puts it in front of the verb's own file (docs/explanation/flow_control.md).
--
-- KEYS[1]  the prefix of all keys of this gate, with the hash tag: one shard holds them all
-- ARGV[1]  the server's run_id, as the caller's connection knows it
-- ARGV[2]  the JSON of the call: its verb's header says what is in it
-- Result   {'stale'} where the state is not this server's (a flush, a restart, a restored snapshot), {'closed'} while
--          it is being rebuilt, else {'ok', now, revision, more (call `wake` again), …the verb's own}
--
-- A limit's key is `kind:name@instance`. Kinds: c concurrency, w exact sliding window, g GCRA, p can only be paused.
-- A limit set is `step limits RS run limits`, each joined by US. Times are microseconds of the store's own clock.
--
-- Below prefix .. generation:
--   limits      hash  name → base value|stamp|override value|revision
--   permits     zset  permit → when it expires          permit  hash  permit → its record
--   u:K         string  uses: permits of a concurrency limit, reservations of a rate limit
--   h:K  q:K    hash and list: the starts of a window by bucket, and the buckets in order (at most 1,000 live ones)
--   g:K         string  the theoretical arrival time of a GCRA limit
--   w:K         zset  tenant → virtual time             w:K|t   zset  waiting step → priority-shifted time
--   v:K         hash  tenant → virtual time after its last grant; '' → that of the last one served
--   waiter      hash  waiting step → its record         waits   hash  K → how many wait
--   timers      zset  K → when its waiters are to be looked at again
--   instances:n set   the K of the limit n that have waiters
--   pauses      hash  K → paused until                  refused, hold  hash  name → refusals; mean µs a permit is held
local prefix, call = KEYS[1], cjson.decode(ARGV[2])
local epoch = redis.call('HMGET', prefix .. 'epoch', 'generation', 'run_id', 'state', 'revision', 'clock', 'paused')
if not epoch[1] or epoch[2] ~= ARGV[1] then return { 'stale' } end
if epoch[3] ~= 'open' and not RESTORING then return { 'closed' } end

local GS, RS, US = '\29', '\30', '\31'
local RESERVATION, LEASE = call.reservation_us or 15000000, call.lease_us or 15000000
local root = prefix .. epoch[1] .. ':'
local clock = redis.call('TIME')
local now = tonumber(epoch[5] or '') or tonumber(clock[1]) * 1000000 + tonumber(clock[2])  -- `clock`: only tests set it
local revision = tonumber(epoch[4] or '0')
local pops_left, more = call.pops or 200, 0
local any_pause = epoch[6] == '1'

local function whole(number) return string.format('%d', number) end

local function split(text, separator)
    local parts, from = {}, 1
    while true do
        local at = string.find(text, separator, from, true)
        if not at then
            parts[#parts + 1] = string.sub(text, from)
            return parts
        end
        parts[#parts + 1] = string.sub(text, from, at - 1)
        from = at + 1
    end
end

local function name_of(limit) return string.match(limit, '^%a:([^@]*)') end

local sets = {}
local function parse_set(text)
    local set = sets[text]
    if not set then
        local halves = split(text, RS)
        set = { steps = halves[1] ~= '' and split(halves[1], US) or {}, runs = {} }
        if halves[2] and halves[2] ~= '' then set.runs = split(halves[2], US) end
        sets[text] = set
    end
    return set
end

-- Definitions ------------------------------------------------------------------------------------------------------

local definitions = {}

local function understand(kind, stored)
    local fields = split(stored, '|')
    local numbers = split(fields[3] ~= '' and fields[3] or fields[1], ',')
    local limit, period = tonumber(numbers[1]), tonumber(numbers[2] or '0')
    return {
        kind = kind, limit = limit, period = period, burst = tonumber(numbers[3] or '1'),
        bucket = math.max(1, math.floor(period / 1000)), slack = math.min(100000, math.floor(period / 50)),
    }
end

local function definition(limit)
    local found = definitions[limit]
    if not found then
        local kind = string.sub(limit, 1, 1)
        if kind == 'p' then
            found = { kind = kind }
        else
            -- One without a definition admits nothing: nothing is unlimited by accident.
            found = understand(kind, redis.call('HGET', root .. 'limits', name_of(limit)) or '0,1000000|0||0')
        end
        definitions[limit] = found
    end
    return found
end

local function wake_instances(name)
    for _, limit in ipairs(redis.call('SMEMBERS', root .. 'instances:' .. name)) do
        redis.call('ZADD', root .. 'timers', 0, limit)
        more = 1
    end
end

-- A caller brings the definitions that it knows. The newest wins: of the base (a flow's version, or when a process
-- read its environment), and of the override (its revision); so that a process that lags can't bring old values back.
local function define(given)
    local names, values = {}, {}
    for name, value in pairs(given or {}) do
        names[#names + 1] = name
        values[name] = value
    end
    if #names == 0 then return end
    local stored = redis.call('HMGET', root .. 'limits', unpack(names))
    for index, name in ipairs(names) do
        local old, new = stored[index], values[name]
        if not old then
            redis.call('HSET', root .. 'limits', name, new)
        elseif old ~= new then
            local a, b = split(old, '|'), split(new, '|')
            local changed = false
            if tonumber(b[2]) > tonumber(a[2]) then
                changed = a[1] ~= b[1]
                a[1], a[2] = b[1], b[2]
            end
            if tonumber(b[4]) > tonumber(a[4]) then
                changed = changed or a[3] ~= b[3]
                a[3], a[4] = b[3], b[4]
            end
            local merged = table.concat(a, '|')
            if merged ~= old then redis.call('HSET', root .. 'limits', name, merged) end
            if changed then wake_instances(name) end
        end
    end
end

-- Use: read once, changed here, written at the end --------------------------------------------------------------------

local uses, use_change = {}, {}
local waits, wait_change = {}, {}

local function prefetch(limits)
    local wanted, keys = {}, {}
    for _, limit in ipairs(limits) do
        if not uses[limit] then
            wanted[#wanted + 1] = limit
            keys[#keys + 1] = root .. 'u:' .. limit
            uses[limit] = 0
        end
    end
    if #wanted == 0 then return end
    local used = redis.call('MGET', unpack(keys))
    local waiting = redis.call('HMGET', root .. 'waits', unpack(wanted))
    for index, limit in ipairs(wanted) do
        uses[limit] = tonumber(used[index] or '0')
        if not waits[limit] then waits[limit] = tonumber(waiting[index] or '0') end
    end
end

local function in_use(limit)
    if not uses[limit] then prefetch({ limit }) end
    return uses[limit]
end

local function use(limit, count)
    uses[limit] = in_use(limit) + count
    use_change[limit] = (use_change[limit] or 0) + count
end

local function waiting(limit)
    if not waits[limit] then waits[limit] = tonumber(redis.call('HGET', root .. 'waits', limit) or '0') end
    return waits[limit]
end

-- Windows: exact, since a start counts from the end of its bucket and a bucket leaves only as a whole -------------------

local windows = {}

local function window(limit, rule)
    local found = windows[limit]
    if found then return found end
    local key = root .. 'h:' .. limit
    local fields = redis.call('HMGET', key, 't', 'l')
    found = { total = tonumber(fields[1] or '0'), last = tonumber(fields[2] or '0'), added = 0 }
    windows[limit] = found
    if found.last > now + math.max(rule.bucket, 1000000) then
        -- The clock has gone back: count all starts as if they were now.
        local bucket = math.ceil(now / rule.bucket) * rule.bucket
        redis.call('DEL', key, root .. 'q:' .. limit)
        if found.total > 0 then
            redis.call('HSET', key, 't', found.total, 'l', whole(bucket), whole(bucket), found.total)
            redis.call('RPUSH', root .. 'q:' .. limit, whole(bucket))
            redis.call('PEXPIRE', key, math.ceil((rule.period + rule.slack) / 1000) + 1000)
            redis.call('PEXPIRE', root .. 'q:' .. limit, math.ceil((rule.period + rule.slack) / 1000) + 1000)
        end
        found.last = bucket
    end
    return found
end

local function drop_old(limit, rule, found, most)
    local edge, key, order = now - rule.period - rule.slack, root .. 'h:' .. limit, root .. 'q:' .. limit
    while most > 0 do
        most = most - 1
        local head = redis.call('LINDEX', order, 0)
        if not head or tonumber(head) > edge then return end
        redis.call('LPOP', order)
        local count = tonumber(redis.call('HGET', key, head) or '0')
        redis.call('HDEL', key, head)
        if count > 0 then redis.call('HINCRBY', key, 't', -count) end
        found.total = found.total - count
    end
end

local function arrival(limit)
    return math.max(now, tonumber(redis.call('GET', root .. 'g:' .. limit) or '0'))
end

local function paused_until(limit)
    if not any_pause then return nil end
    local till = tonumber(redis.call('HGET', root .. 'pauses', limit) or '0')
    if till > now then return till end
    if till > 0 then redis.call('HDEL', root .. 'pauses', limit) end
    return nil
end

-- How many more may start now.
local function room(limit)
    local rule = definition(limit)
    if paused_until(limit) then return 0 end
    if rule.kind == 'c' then return rule.limit - in_use(limit) end
    if rule.kind == 'p' then return math.huge end
    if rule.kind == 'g' then
        local each = rule.period / rule.limit
        return math.floor((now + (rule.burst - 1) * each - arrival(limit)) / each + 1e-9) + 1 - in_use(limit)
    end
    local found = window(limit, rule)
    local free = rule.limit - found.total - in_use(limit)
    if free < 1 then
        drop_old(limit, rule, found, 2000)
        free = rule.limit - found.total - in_use(limit)
    end
    return free
end

-- When there may be room again by the passing of time alone; nothing for a limit that waits for a release.
local function next_free(limit)
    local rule = definition(limit)
    local till = paused_until(limit)
    if till then return till end
    if rule.kind == 'w' then
        local head = redis.call('LINDEX', root .. 'q:' .. limit, 0)
        if windows[limit] and windows[limit].added > 0 and not head then head = whole(windows[limit].bucket) end
        return head and tonumber(head) + rule.period + rule.slack
    elseif rule.kind == 'g' then
        local each = rule.period / rule.limit
        return math.ceil(arrival(limit) + in_use(limit) * each - (rule.burst - 1) * each)
    end
    return nil
end

-- A start: from now on it counts in the windows.
local function stamp(limit, count)
    local rule = definition(limit)
    if rule.kind == 'w' then
        local found = window(limit, rule)
        found.total = found.total + count
        found.added = found.added + count
        found.bucket = math.max(math.ceil(now / rule.bucket) * rule.bucket, found.last)
    elseif rule.kind == 'g' then
        local each = rule.period / rule.limit
        local till = arrival(limit) + count * each
        redis.call('SET', root .. 'g:' .. limit, whole(till), 'PX', math.ceil((till - now) / 1000) + 1000)
    end
end

-- Permits ----------------------------------------------------------------------------------------------------------
-- States: r reserved (in the broker), l lapsed (so long in the broker that only its place in the queue is still held),
-- L leased (executing), h held (a run's slots: they never expire, Postgres is their truth).
-- A record is state, token, stamp, score (as text; `n+i`: the i-th of a group at n), and its tail (tenant, weight, lane,
-- run, set), which a whole group shares.

local tails = {}
local function tail_of(text)
    local found = tails[text]
    if not found then
        local f = split(text, GS)
        found = { text = text, tenant = f[1], weight = tonumber(f[2]), lane = f[3], run = f[4], set = parse_set(f[5]) }
        tails[text] = found
    end
    return found
end

local expiries, unexpire = {}, {}
local records, forget = {}, {}
local known = {}
local RECORD = '^(%a)\29([^\29]*)\29([^\29]*)\29([^\29]*)\29(.*)$'

local function understand_record(id, text)
    local found = false
    if text then
        local state, token, stamped, score, tail = string.match(text, RECORD)
        found = { id = id, state = state, token = token, stamp = tonumber(stamped), score = score,
            tail = tail_of(tail) }
    end
    known[id] = found
    return found
end

local function load_records(ids)
    for from = 1, #ids, 1000 do
        local last = math.min(from + 999, #ids)
        local texts = redis.call('HMGET', root .. 'permit', unpack(ids, from, last))
        for index = from, last do understand_record(ids[index], texts[index - from + 1]) end
    end
end

local function record_of(id)
    local found = known[id]
    if found == nil then found = understand_record(id, redis.call('HGET', root .. 'permit', id)) end
    return found
end

local function score_of(permit)
    local base, position = string.match(permit.score, '^(%d+)%+?(%d*)$')
    return tonumber(base) + (tonumber(position) or 0)
end

local function save(permit, expires)
    local id = permit.id
    known[id] = permit
    records[id] = permit.state .. GS .. permit.token .. GS .. whole(permit.stamp) .. GS .. permit.score .. GS
        .. permit.tail.text
    forget[id] = nil
    expiries[id] = expires
    unexpire[id] = not expires or nil
end

local function drop(permit)
    local id = permit.id
    known[id] = false
    records[id], expiries[id] = nil, nil
    forget[id], unexpire[id] = true, true
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

local function lane_limit(permit) return 'c:queue:' .. permit.tail.lane end

local function give_all_back(permit, count)
    if string.sub(permit.id, 1, 4) == 'run:' then
        give_back(permit, permit.tail.set.runs, nil, count)
    elseif permit.state == 'l' then
        give_back(permit, { lane_limit(permit) }, nil, count)
    else
        give_back(permit, permit.tail.set.steps, nil, count)
    end
end

local function release(permit)
    give_all_back(permit, 1)
    drop(permit)
end

-- Release many: what permits of one kind hold is given back together.
local function release_many(permits)
    local alike = { r = {}, l = {}, L = {}, h = {} }
    for _, permit in ipairs(permits) do
        local same = alike[permit.state][permit.tail]
        if same then same.count = same.count + 1
        else alike[permit.state][permit.tail] = { permit = permit, count = 1 } end
        drop(permit)
    end
    for _, kind in pairs(alike) do
        for _, same in pairs(kind) do give_all_back(same.permit, same.count) end
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
            give_back(permit, permit.tail.set.steps, lane_limit(permit), 1)
            permit.state = 'l'
            save(permit)
        else
            release(permit)
        end
    end
end

-- Waiting ----------------------------------------------------------------------------------------------------------

local places, unwait = {}, {}

local function count_waiting(limit, change)
    waits[limit] = waiting(limit) + change
    wait_change[limit] = (wait_change[limit] or 0) + change
end

local waiters = {}

local function understand_waiter(id, text)
    local found = false
    if text then
        local limit, score, since, tail = string.match(text, '^([^\29]*)\29([^\29]*)\29([^\29]*)\29(.*)$')
        found = { id = id, limit = limit, score = tonumber(score), since = tonumber(since), tail = tail_of(tail) }
    end
    waiters[id] = found
    return found
end

local function load_waiters(ids)
    for from = 1, #ids, 1000 do
        local last = math.min(from + 999, #ids)
        local texts = redis.call('HMGET', root .. 'waiter', unpack(ids, from, last))
        for index = from, last do understand_waiter(ids[index], texts[index - from + 1]) end
    end
end

local function waiter_of(id)
    local found = waiters[id]
    if found == nil then found = understand_waiter(id, redis.call('HGET', root .. 'waiter', id)) end
    return found
end

local function park(item, limit)
    local queue, tenant = root .. 'w:' .. limit, item.tail.tenant
    item.limit, item.since = limit, item.since or now
    waiters[item.id] = item
    if redis.call('ZADD', queue .. '|' .. tenant, item.score, item.id) == 1
        and not redis.call('ZSCORE', queue, tenant) then
        local times = redis.call('HMGET', root .. 'v:' .. limit, tenant, '')
        redis.call('ZADD', queue, math.max(tonumber(times[1] or '0'), tonumber(times[2] or '0')), tenant)
    end
    if waiting(limit) == 0 then redis.call('SADD', root .. 'instances:' .. name_of(limit), limit) end
    count_waiting(limit, 1)
    places[item.id] = limit .. GS .. whole(item.score) .. GS .. whole(item.since) .. GS .. item.tail.text
    unwait[item.id] = nil
    to_pump[limit] = true
end

-- Take a step out of the wait set of its limit.
local function leave(item)
    local queue, tenant = root .. 'w:' .. item.limit, item.tail.tenant
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

local function run_of(tail) return record_of('run:' .. tail.run) end

local function in_the_way(limits, ahead)
    for _, limit in ipairs(limits) do
        if (ahead and waiting(limit) > 0) or room(limit) < 1 then return limit end
    end
    return nil
end

-- The first limit in the way: the run's come first, so that a run that may not start holds nothing else up.
-- `ahead`: whoever comes anew stands behind those who wait.
local function blocker(tail, ahead)
    local set = tail.set
    prefetch(set.steps)
    if #set.runs > 0 and not run_of(tail) then
        local limit = in_the_way(set.runs, ahead)
        if limit then return limit end
    end
    return in_the_way(set.steps, ahead)
end

local function charge(limits, starts, count)
    for _, limit in ipairs(limits) do
        local kind = string.sub(limit, 1, 1)
        if kind == 'c' or (not starts and kind ~= 'p') then
            use(limit, count)
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
        end
    end
end

local function hold_run(tail, starts, score)
    local run = run_of(tail)
    if not run then
        charge(tail.set.runs, starts, 1)
        save({ id = 'run:' .. tail.run, state = starts and 'h' or 'r', token = '', stamp = now, score = whole(score),
            tail = tail }, not starts and now + RESERVATION or nil)
    elseif starts and run.state == 'r' then
        start(tail.set.runs, 1)
        run.state = 'h'
        save(run)
    end
end

-- Grant what was looked at before: reserved, or started here where the caller can take it.
local function grant(item, charged)
    local tail = item.tail
    local starts = take_left > 0 and lanes[tail.lane] or false
    if #tail.set.runs > 0 then hold_run(tail, starts, item.score) end
    if not charged then charge(tail.set.steps, starts, 1) end
    save({ id = item.id, state = starts and 'L' or 'r', token = starts and call.lease or '', stamp = now,
        score = whole(item.score), tail = tail }, now + (starts and LEASE or RESERVATION))
    if starts then
        take_left = take_left - 1
        taken[#taken + 1] = item.id
    else
        granted[#granted + 1] = item.id
    end
end

-- Hand over what the limit has room for: the tenant that had least comes first, within it the earliest step.
local function pump(limit)
    local queue, served = root .. 'w:' .. limit, false
    while pops_left > 0 and waiting(limit) > 0 and room(limit) >= 1 do
        pops_left = pops_left - 1
        local first = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
        local tenant, time = first[1], tonumber(first[2] or '0')
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
                local other = blocker(item.tail)
                if other then
                    park(item, other)
                else
                    grant(item)
                    local after = time + 1 / item.tail.weight
                    redis.call('HSET', root .. 'v:' .. limit, tenant, after, '', time)
                    if not emptied then redis.call('ZADD', queue, after, tenant) end
                end
            end
        end
    end
    if waiting(limit) > 0 then
        if room(limit) >= 1 then
            more = 1
            redis.call('ZADD', root .. 'timers', 0, limit)
        else
            local due = next_free(limit)
            if due then redis.call('ZADD', root .. 'timers', due, limit) else redis.call('ZREM', root .. 'timers', limit) end
        end
    elseif wait_change[limit] then
        redis.call('ZREM', root .. 'timers', limit)
        redis.call('SREM', root .. 'instances:' .. name_of(limit), limit)
        redis.call('DEL', root .. 'v:' .. limit)
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
    local limit = blocker(item.tail, true)
    if limit then
        refused[limit] = (refused[limit] or 0) + 1
        parked[#parked + 1] = item.id
        park(item, limit)
    else
        grant(item)
    end
end

-- A whole group of newcomers for which all limits have room, and nobody stands ahead: counted at once.
local function admit_together(tail, steps)
    if #tail.set.runs > 0 then return false end
    for _, limit in ipairs(tail.set.steps) do
        if waiting(limit) > 0 or room(limit) < #steps then return false end
    end
    for _, step in ipairs(steps) do
        if type(step) == 'table' or known[step] or waiters[step] then return false end
    end
    local here = lanes[tail.lane] and math.min(take_left, #steps) or 0
    take_left = take_left - here
    if here > 0 then charge(tail.set.steps, true, here) end
    if here < #steps then charge(tail.set.steps, false, #steps - here) end
    local moment, rest = whole(now), GS .. tail.text
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
        local tail = tail_of(table.concat({ group[2], group[3], group[4], group[5], group[1] }, GS))
        prefetch(tail.set.steps)
        prefetch(tail.set.runs)
        local steps = admit_together(tail, group[6]) and {} or group[6]
        for _, step in ipairs(steps) do
            sequence = sequence + 1
            if type(step) == 'table' then
                admit_one({ id = step[1], tail = tail, score = now + sequence - step[2], token = step[3] })
            else
                admit_one({ id = step, tail = tail, score = now + sequence, token = '' })
            end
        end
    end
end

-- Write what changed, and answer -------------------------------------------------------------------------------------

local function write_many(command, key, pairs_list)
    for from = 1, #pairs_list, 1000 do
        redis.call(command, key, unpack(pairs_list, from, math.min(from + 999, #pairs_list)))
    end
end

local function finish(...)
    pump_all()
    for limit, change in pairs(use_change) do
        if uses[limit] <= 0 then
            redis.call('DEL', root .. 'u:' .. limit)
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
        if found.added > 0 then
            local rule, key, order = definition(limit), root .. 'h:' .. limit, root .. 'q:' .. limit
            redis.call('HINCRBY', key, whole(found.bucket), found.added)
            redis.call('HINCRBY', key, 't', found.added)
            if found.bucket ~= found.last then
                redis.call('RPUSH', order, whole(found.bucket))
                redis.call('HSET', key, 'l', whole(found.bucket))
                drop_old(limit, rule, found, 4)
                local keep = math.ceil((rule.period + rule.slack) / 1000) + 1000
                redis.call('PEXPIRE', key, keep)
                redis.call('PEXPIRE', order, keep)
            end
        end
    end
    local rows = {}
    for id, text in pairs(records) do
        rows[#rows + 1] = id
        rows[#rows + 1] = text
    end
    if #rows > 0 then write_many('HSET', root .. 'permit', rows) end
    rows = {}
    for id, till in pairs(expiries) do
        rows[#rows + 1] = till
        rows[#rows + 1] = id
    end
    if #rows > 0 then write_many('ZADD', root .. 'permits', rows) end
    rows = {}
    for id in pairs(unexpire) do rows[#rows + 1] = id end
    if #rows > 0 then write_many('ZREM', root .. 'permits', rows) end
    rows = {}
    for id in pairs(forget) do rows[#rows + 1] = id end
    if #rows > 0 then write_many('HDEL', root .. 'permit', rows) end
    rows = {}
    for id in pairs(unwait) do rows[#rows + 1] = id end
    if #rows > 0 then write_many('HDEL', root .. 'waiter', rows) end
    rows = {}
    for id, text in pairs(places) do
        rows[#rows + 1] = id
        rows[#rows + 1] = text
    end
    if #rows > 0 then write_many('HSET', root .. 'waiter', rows) end
    for limit, count in pairs(refused) do redis.call('HINCRBY', root .. 'refused', name_of(limit), count) end
    local answer = { 'ok', whole(now), revision, more }
    for _, ids in ipairs({ ... }) do
        answer[#answer + 1] = table.concat(ids, ' ')  -- one text: fifty replies cost the client more than the call
    end
    return answer
end
