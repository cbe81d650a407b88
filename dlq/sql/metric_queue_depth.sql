-- Steps that are ready and have not started, by organization.
-- Parameters: as in dlq/metrics.py. Returns: org_id, value, run_id, step.
SELECT s.org_id, count(*)::float8, NULL::uuid, '' FROM workflows_steprun s WHERE s.status = 'ready' GROUP BY s.org_id
