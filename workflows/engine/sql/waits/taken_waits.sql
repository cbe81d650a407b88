-- Waits that are over, and the waiting steps that they end: what recording them needs. Returns for each the step, the
-- event, and the run waited for, whose output is that of its only last step where its flow names none.
-- Parameters: ids uuid[] (of step runs).
-- Returns: id uuid (of the step run), waits bool (it waits still; else run_id, version_id, … waiting_for are null),
--   taken_by text, kind text, condition text, options jsonb, answer jsonb or null, child_id uuid or null, run_id uuid,
--   version_id uuid, org_id uuid, key text, path text, index int or null, container_id uuid or null, attempt int,
--   wake_seq int, losses int, server_retry_waits int, timeout_ms int, queue text, type text, priority int, needs_met
--   int, needs_total int, waiting_for text, queued_s float8, event_id uuid or null, event_name text or null, event_data
--   jsonb or null, event_user jsonb or null, event_ts timestamptz or null, child_status text or null, child_error jsonb
--   or null, child_version uuid or null, child_output jsonb or null.
-- Indexes: primary keys, step_run_identity. (`status || ''` hides the partial indexes from the planner: ADR 4.)
SELECT w.step_run_id AS id, s.id IS NOT NULL AS waits, w.taken_by, w.kind, w.condition, w.options, w.answer, w.child_id,
       s.run_id, s.version_id, s.org_id, s.key, s.path, s.index, s.container_id, s.attempt, s.wake_seq, s.losses,
       s.told_waits AS server_retry_waits, s.timeout_ms, s.queue, s.type, s.priority, s.needs_met, s.needs_total,
       s.waiting_for, 0::float8 AS queued_s, e.id AS event_id, e.name AS event_name, e.data AS event_data,
       e."user" AS event_user, e.ts AS event_ts, c.status AS child_status, c.error AS child_error,
       c.version_id AS child_version,
       COALESCE(c.output, (SELECT CASE WHEN count(*) = 1 THEN (array_agg(l.output))[1] END
           FROM headrace_workflows_steprun l
                            WHERE l.run_id = c.id AND l.is_sink AND l.path = ''
                              AND c.status = 'completed')) AS child_output
  FROM headrace_workflows_wait w
  LEFT JOIN headrace_workflows_steprun s ON s.id = w.step_run_id AND s.status || '' = 'waiting'
      AND s.waiting_for = w.kind
  LEFT JOIN headrace_workflows_event e ON e.id = w.event_id
  LEFT JOIN headrace_workflows_run c ON c.id = w.child_id
 WHERE w.step_run_id = ANY (%(ids)s::uuid[]) AND w.taken_at IS NOT NULL
 ORDER BY w.step_run_id
