-- The longest wait of a ready step for its start, as a share of the processing target of its priority level; background
-- has none. By organization, with the step that shows it. Indexes: step_run_ready, step_run_parked.
-- Parameters: as in dlq/alerting/metrics.py. Returns: org_id, value, run_id, step.
SELECT DISTINCT ON (w.org_id) w.org_id, w.share, w.run_id, w.key
  FROM (SELECT s.org_id, s.run_id, s.key,
               extract(epoch FROM %(now)s - s.ready_at)::float8
                / (%(targets_s)s::float8[])[width_bucket(s.priority, %(levels_from)s::int[])] AS share
          FROM (SELECT org_id, run_id, key, ready_at, priority FROM headrace_workflows_steprun
                 WHERE status = 'ready' AND waiting_for = ''
                 UNION ALL
                SELECT org_id, run_id, key, ready_at, priority FROM headrace_workflows_steprun
                 WHERE status = 'ready' AND waiting_for = 'limit') s
         WHERE s.ready_at IS NOT NULL AND s.priority >= (%(levels_from)s::int[])[1]) w
 ORDER BY w.org_id, w.share DESC
