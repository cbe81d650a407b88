-- The epoch: which server's state this is, and whether it may be used. Run without the core.
--
-- KEYS[1] prefix   ARGV[1] the server's run_id   ARGV[2] verb: begin, open, revise or look
-- begin   ARGV[3] a new generation, ARGV[4] '1' to begin anew even where the state is sound: where it is not this
--         server's, or there is none, the new generation begins, closed
-- open    ARGV[3] the generation that was rebuilt, ARGV[4] the policies' revision: it may be used from now on
-- revise  ARGV[3] a revision of the policies
-- Result  {generation, state, revision}
local key = KEYS[1] .. 'epoch'
local found = redis.call('HMGET', key, 'generation', 'run_id', 'state', 'revision')
local verb = ARGV[2]
if verb == 'begin' and (not found[1] or found[2] ~= ARGV[1] or ARGV[4] == '1') then
    redis.call('HSET', key, 'generation', ARGV[3], 'run_id', ARGV[1], 'state', 'rebuilding')
elseif verb == 'open' and found[1] == ARGV[3] and found[2] == ARGV[1] then
    redis.call('HSET', key, 'state', 'open', 'revision', ARGV[4])
elseif verb == 'revise' and found[1] and tonumber(ARGV[3]) > tonumber(found[4] or '0') then
    redis.call('HSET', key, 'revision', ARGV[3])
end
found = redis.call('HMGET', key, 'generation', 'state', 'revision')
return { found[1] or '', found[2] or '', found[3] or '0' }
