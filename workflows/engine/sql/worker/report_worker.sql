-- A worker's sign of life.
-- Parameters: id uuid, name text, queues text[], slots int, capacity int, lanes text, active int, unclaimed int,
--   claimed_until text, code text (JSON: by flow in Python, the digest of the code that it has),
--   cpu_cores float8 or null, memory_bytes bigint or null.
-- Returns: nothing.
-- Index: primary key.
INSERT INTO headrace_workflows_worker (id, name, queues, slots, capacity, lanes, active, unclaimed, claimed_until, code,
                                       cpu_cores, memory_bytes, started_at, seen_at)
VALUES (%(id)s, %(name)s, %(queues)s::text[], %(slots)s, %(capacity)s, %(lanes)s::jsonb, %(active)s, %(unclaimed)s,
        %(claimed_until)s::jsonb, %(code)s::jsonb, %(cpu_cores)s::float8, %(memory_bytes)s::bigint,
        clock_timestamp(), clock_timestamp())
ON CONFLICT (id) DO UPDATE
   SET slots = EXCLUDED.slots, capacity = EXCLUDED.capacity, lanes = EXCLUDED.lanes, active = EXCLUDED.active,
       unclaimed = EXCLUDED.unclaimed, claimed_until = EXCLUDED.claimed_until,
       code = EXCLUDED.code, cpu_cores = EXCLUDED.cpu_cores, memory_bytes = EXCLUDED.memory_bytes,
       seen_at = EXCLUDED.seen_at
