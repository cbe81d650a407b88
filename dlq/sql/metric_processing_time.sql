-- Average duration of the runs ended within the window, in seconds, by organization.
-- Parameters: as in dlq/alerting/metrics.py. Returns: org_id, value, run_id, step. Index: run_ended (by organization
-- and status: OFFSET 0 keeps the planner from reading the runs of all time at once).
SELECT o.id, avg(extract(epoch FROM r.ended_at - COALESCE(r.started_at, r.created_at)))::float8,
       (array_agg(r.id ORDER BY r.ended_at - r.created_at DESC))[1], ''
  FROM headrace_workflows_organization o
 CROSS JOIN unnest(ARRAY['completed', 'failed']) AS w (status)
 CROSS JOIN LATERAL (
     SELECT id, ended_at, started_at, created_at FROM headrace_workflows_run
      WHERE org_id = o.id AND status = w.status AND ended_at IS NOT NULL AND ended_at > %(since)s OFFSET 0) r
 GROUP BY o.id HAVING count(*) >= %(least)s
