-- A meter: so many units a second, evenly, and at most those of one second at once. A request of more units than that
-- is taken where the meter is full, and those after it wait until it is paid for. Run without the core.
--
-- KEYS[1] the meter   ARGV[1] units a second   ARGV[2] units asked for; 0 only looks
-- Result  {µs to wait, or 0 where they were taken; units used of those of one second}
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local rate, count = tonumber(ARGV[1]), tonumber(ARGV[2])
local each = 1000000 / rate
local paid = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
local wait = paid + math.min(count, rate) * each - (now + 1000000)
if count > 0 and wait <= 0 then
    paid = paid + count * each
    redis.call('SET', KEYS[1], string.format('%.0f', paid), 'PX', string.format('%.0f', (paid - now) / 1000 + 1000))
end
return { wait > 0 and math.ceil(wait) or 0, math.ceil((paid - now) / each - 0.001) }
