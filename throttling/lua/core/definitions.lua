-- The shared part of every verb: Python puts the files of this directory, in the order of `gate.CORE`, in front of the
-- verb's own (docs/explanation/flow_control.md).
--
-- KEYS[1]  the prefix of all keys of this gate, with the hash tag: one shard holds them all
-- ARGV[1]  the server's run_id, as the caller's connection knows it
-- ARGV[2]  the JSON of the call: its verb's header says what is in it; and in every call lease_us and reservation_us,
--          after which permits expire and reservations lapse (throttling/clocks.py)
-- Result   {'stale'} where the state is not this server's (a flush, a restart, a restored snapshot), {'closed'} while
--          it is being rebuilt, else {'ok', now, revision, more (call `wake` again), …the verb's own}
--
-- A limit's key is `kind:name@key` (throttling/names.py builds and parses keys and definitions). Kinds: c concurrency,
-- w exact sliding window, g GCRA, p can only be paused.
-- A limit set is `step limits RS run limits`, each joined by US. Times are microseconds of the store's own clock.
--
-- Below prefix .. generation:
--   of_run      hash  run → how many steps of it have permits
--   limits      hash  name → base value|stamp|override value|revision
--   permits     zset  permit → when it expires          permit  hash  permit → its record
--   u:K         string  uses: permits of a concurrency limit, reservations of a rate limit
--   h:K  q:K    hash and list: the starts of a window by bucket, and the buckets in order (at most 1,000 live ones)
--   g:K         string  the theoretical arrival time of a GCRA limit
--   w:K         zset  tenant → virtual time             w:K|t   zset  waiting step → priority-shifted time
--   v:K         hash  tenant → virtual time after its last grant; '' → that of the last one served
--   o:K         hash  tenant → how many permits it holds, of a queue that is shared by time (counted whether or not a
--                     place of it is kept free now)
--   waiter      hash  waiting step → its record         waits   hash  K → how many wait
--   timers      zset  K → when its waiters are to be looked at again
--   instances:n set   the K of the limit n that have waiters
--   pauses      hash  K → paused until                  refused, hold  hash  name → refusals; mean µs a permit is held
local prefix, call = KEYS[1], cjson.decode(ARGV[2])
local epoch = redis.call('HMGET', prefix .. 'epoch', 'generation', 'run_id', 'state', 'revision', 'clock', 'paused')
if not epoch[1] or epoch[2] ~= ARGV[1] then return { 'stale' } end
if epoch[3] ~= 'open' and not RESTORING then return { 'closed' } end

local GS, RS, US = '\29', '\30', '\31'
local RESERVATION, LEASE = call.reservation_us, call.lease_us
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

-- A place among all runs: a run that only waits gives it up, and asks again when it goes on. (It keeps what its flow
-- limits.)
local function is_place(limit) return string.sub(limit, 1, 7) == 'c:runs:' end

local sets = {}
local function parse_set(text)
    local set = sets[text]
    if not set then
        local halves = split(text, RS)
        set = { steps = halves[1] ~= '' and split(halves[1], US) or {}, runs = {}, places = {} }
        if halves[2] and halves[2] ~= '' then set.runs = split(halves[2], US) end
        for _, limit in ipairs(set.runs) do
            if is_place(limit) then set.places[#set.places + 1] = limit end
        end
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
    local kept = tonumber(numbers[4] or '0')
    return {
        kind = kind, limit = limit, period = period, burst = tonumber(numbers[3] or '1'),
        bucket = math.max(1, math.floor(period / 1000)), slack = math.min(100000, math.floor(period / 50)),
        kept = kept,  -- places that one tenant leaves free (shares.lua)
        timed = kept > 0 or numbers[5] == '1',  -- a leader of the release before marks a queue only by what is kept
    }
end

local function definition(limit)
    local found = definitions[limit]
    if not found then
        local kind = string.sub(limit, 1, 1)
        if kind == 'p' then
            found = { kind = kind, kept = 0, timed = false }
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

local recount  -- permits.lua

local function shares_differ(before, after)
    local a, b = understand('c', before), understand('c', after)
    return a.kept ~= b.kept or a.timed ~= b.timed
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
            if string.sub(name, 1, 6) == 'queue:' and shares_differ(old, merged) then recount('c:' .. name) end
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
