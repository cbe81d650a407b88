-- Share of the steps tried within the window that were tried again, by organization.
-- Parameters: as in dlq/alerting/metrics.py. Returns: org_id, value, run_id, step.
SELECT t.org_id, avg((t.tries > 1 OR t.open)::int)::float8,
       (array_agg(t.run_id) FILTER (WHERE t.tries > 1 OR t.open))[1], ''
  FROM (SELECT a.org_id, a.run_id, a.step_run_id, max(a.number) AS tries,
               bool_or(a.status = 'failed') AND (SELECT s.status FROM headrace_workflows_steprun s
                   WHERE s.id = a.step_run_id)
                   NOT IN ('failed', 'cancelled') AS open
          FROM headrace_workflows_attempt a WHERE a.id >= %(first)s GROUP BY a.org_id, a.run_id, a.step_run_id) t
 GROUP BY t.org_id HAVING count(*) >= %(least)s
