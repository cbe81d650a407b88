-- Runs ended per minute within the window, by organization.
-- Parameters: as in dlq/alerting/metrics.py. Returns: org_id, value, run_id, step. Index: run_ended (by organization
-- and status: OFFSET 0 keeps the planner from reading the runs of all time at once).
SELECT o.id, count(r.id)::float8 * 60 / %(window_s)s, NULL::uuid, ''
  FROM headrace_workflows_organization o
 CROSS JOIN unnest(ARRAY['completed', 'failed']) AS w (status)
  LEFT JOIN LATERAL (
     SELECT id FROM headrace_workflows_run
      WHERE org_id = o.id AND status = w.status AND ended_at IS NOT NULL AND ended_at > %(since)s OFFSET 0) r ON true
 GROUP BY o.id
