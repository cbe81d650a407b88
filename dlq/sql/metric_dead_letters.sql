-- Dead letters within the window, by organization.
-- Parameters: as in dlq/alerting/metrics.py. Returns: org_id, value, run_id, step. Index: dead_letter_by_time (by
-- organization: OFFSET 0 keeps the planner from reading the letters of all time at once).
SELECT o.id, count(*)::float8, (array_agg(d.run_id ORDER BY d.id DESC))[1],
       (array_agg(d.step_key ORDER BY d.id DESC))[1]
  FROM headrace_workflows_organization o
 CROSS JOIN LATERAL (
     SELECT id, run_id, step_key, group_id FROM headrace_dlq_deadletter
      WHERE org_id = o.id AND status = 'failed' AND failed_at > %(since)s OFFSET 0) d
 WHERE NOT EXISTS (SELECT 1 FROM headrace_dlq_deadlettergroup g WHERE g.id = d.group_id AND g.snoozed_until > %(now)s)
 GROUP BY o.id
