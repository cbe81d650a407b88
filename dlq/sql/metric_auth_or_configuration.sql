-- Failures for good by credentials or configuration within the window, by organization.
-- Parameters: as in dlq/alerting/metrics.py. Returns: org_id, value, run_id, step. Index: dead_letter_by_time.
SELECT d.org_id, count(*)::float8, (array_agg(d.run_id ORDER BY d.id DESC))[1],
       (array_agg(d.step_key ORDER BY d.id DESC))[1]
  FROM headrace_dlq_deadletter d
 WHERE d.category = ANY (%(alerting)s) AND d.failed_at > %(since)s
   AND NOT EXISTS (SELECT 1 FROM headrace_dlq_deadlettergroup g WHERE g.id = d.group_id AND g.snoozed_until > %(now)s)
 GROUP BY d.org_id
