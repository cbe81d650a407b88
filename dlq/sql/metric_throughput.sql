-- Runs ended per minute within the window, by organization.
-- Parameters: as in dlq/alerting/metrics.py. Returns: org_id, value, run_id, step.
SELECT o.id, count(r.id)::float8 * 60 / %(window_s)s, NULL::uuid, ''
  FROM headrace_workflows_organization o
  LEFT JOIN headrace_workflows_run r ON r.org_id = o.id AND r.status IN ('completed', 'failed')
      AND r.ended_at IS NOT NULL
                           AND r.ended_at > %(since)s
 GROUP BY o.id
