-- Ready steps that nobody published (the process died between commit and publish), after a second of grace. The first
-- of each organization comes before the second of any. Returns the steps, to be prepared and dispatched.
-- Parameters: batch bigint, queues text[], put_off uuid[].
-- Returns: id uuid, run_id uuid, version_id uuid, org_id uuid, key text, path text, queue text, type text, priority
--   int, attempt int, needs_total int, needs_met int, losses int, ready_at timestamptz, needs_prepare bool, place
--   bigint.
-- Index: step_run_ready.
SELECT f.* FROM (
    SELECT u.*, row_number() OVER (PARTITION BY u.org_id ORDER BY u.ready_at) AS place FROM (
        SELECT s.id, s.run_id, s.version_id, s.org_id, s.key, s.path, s.queue, s.type, s.priority, s.attempt,
               s.needs_total, s.needs_met, s.losses, s.ready_at, true AS needs_prepare
          FROM headrace_workflows_steprun s
         WHERE s.status = 'ready' AND s.waiting_for = '' AND s.dispatched_at IS NULL
           AND s.queue = ANY (%(queues)s::text[])
           AND s.ready_at < clock_timestamp() - interval '1 second' AND s.id <> ALL (%(put_off)s::uuid[])
         ORDER BY s.ready_at LIMIT %(batch)s) u) f
 ORDER BY f.place, f.ready_at
