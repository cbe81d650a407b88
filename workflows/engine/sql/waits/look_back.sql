-- Events that were stored before these waits, and count for them: whichever of the two commits second sees the other.
-- Not the event that started the run, and none that an earlier wait of the run has had. An event that was stored in a
-- long transaction (of ten seconds at most) takes place when it is matched. Names fit patterns as in engine/events/
-- names.py. At most `page` for each wait. Returns for each wait the events, a row each.
-- Parameters: ids uuid[] (of step runs), after_at timestamptz or null, after_id uuid or null (go on after these), page
--   bigint.
-- Returns: step_run_id uuid, run_id uuid, version_id uuid, match_path text, value_hash text, condition text, id uuid,
--   name text, data jsonb, user jsonb, ts timestamptz, received_at timestamptz, matched_at timestamptz or null.
-- Indexes: primary keys, event_by_name.
SELECT w.step_run_id, w.run_id, r.version_id, w.match_path, w.value_hash, w.condition, e.*
  FROM headrace_workflows_wait w
  JOIN headrace_workflows_run r ON r.id = w.run_id
  JOIN headrace_workflows_steprun s ON s.id = w.step_run_id
 CROSS JOIN LATERAL (
    SELECT f.* FROM (
        SELECT e.id, e.name, e.data, e."user", e.ts, e.received_at, e.matched_at FROM headrace_workflows_event e
         WHERE e.org_id = w.org_id AND e.name = w.event_name
           AND e.received_at >= w.since - interval '10 seconds' AND e.rejected = ''
        UNION ALL
        SELECT e.id, e.name, e.data, e."user", e.ts, e.received_at, e.matched_at FROM headrace_workflows_event e
         WHERE right(w.event_name, 1) = '*' AND (w.event_name <> '*' OR NOT starts_with(e.name, 'headrace/'))
           AND e.org_id = w.org_id AND starts_with(e.name, left(w.event_name, -1))
           AND e.received_at >= w.since - interval '10 seconds' AND e.rejected = '') f
     WHERE f.id IS DISTINCT FROM r.event_id
       AND (f.received_at >= w.since OR f.matched_at IS NULL OR f.matched_at >= w.since)
       AND (%(after_at)s::timestamptz IS NULL
            OR (f.received_at, f.id) > (%(after_at)s::timestamptz, %(after_id)s::uuid))
       AND NOT EXISTS (SELECT 1 FROM headrace_workflows_steprun o
           WHERE o.run_id = w.run_id AND o.type = 'wait_for_event'
                          AND o.status = 'completed' AND o.ended_at <= s.ready_at
                          AND o.output->>'id' = f.id::text)
     ORDER BY f.received_at, f.id LIMIT %(page)s) e
 WHERE w.step_run_id = ANY (%(ids)s::uuid[]) AND w.kind = 'event' AND w.taken_at IS NULL
 ORDER BY w.step_run_id, e.received_at, e.id
