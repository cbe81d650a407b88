-- What has changed in organizations, each since a moment of its own, for all live streams of a process at once: tries
-- that ended, steps that started and runs that ended, of each organization the earliest so many. One more row has
-- number 0, kind now and the database's clock.
-- Parameters: orgs uuid[], afters timestamptz[], firsts uuid[] (the uuid7 of that moment), page bigint.
-- Returns: number int (which of the organizations, from 1), kind text (try, start, end), id uuid or null, at
--   timestamptz (when it happened).
-- Indexes: primary key of attempts, step_run_running, run_ended.
WITH wanted AS (
    SELECT number::int, org_id, after, first
      FROM unnest(%(orgs)s::uuid[], %(afters)s::timestamptz[], %(firsts)s::uuid[])
           WITH ORDINALITY AS given (org_id, after, first, number)
)
SELECT 0 AS number, 'now' AS kind, NULL::uuid AS id, clock_timestamp() AS at
UNION ALL
SELECT w.number, 'try', tries.id, tries.ended_at
  FROM wanted w
 CROSS JOIN LATERAL (
        SELECT a.id, a.ended_at FROM headrace_workflows_attempt a
         WHERE a.id >= w.first AND a.org_id = w.org_id AND a.ended_at >= w.after
         ORDER BY a.id LIMIT %(page)s) tries
UNION ALL
SELECT w.number, 'start', starts.id, starts.started_at
  FROM wanted w
 CROSS JOIN LATERAL (
        SELECT s.id, s.started_at FROM headrace_workflows_steprun s
         WHERE s.status = 'running' AND s.org_id = w.org_id AND s.started_at >= w.after
         ORDER BY s.started_at LIMIT %(page)s) starts
UNION ALL
SELECT w.number, 'end', ends.id, ends.ended_at
  FROM wanted w
 CROSS JOIN LATERAL (
        SELECT r.id, r.ended_at FROM headrace_workflows_run r
         WHERE r.org_id = w.org_id AND r.status IN ('completed', 'failed', 'cancelled') AND r.ended_at >= w.after
         ORDER BY r.ended_at LIMIT %(page)s) ends
