-- The longest wait of a ready step for its start, as a share of the processing target of its priority level: critical
-- 5 s ("immediate"), high 1 min, normal 5 min, low 1 h; background has none. By organization, with the step that shows
-- it.
-- Levels as throttling/policy.py has them (seconds of head start, nearest level).
-- Parameters: as in dlq/alerting/metrics.py. Returns: org_id, value, run_id, step.
SELECT DISTINCT ON (w.org_id) w.org_id, w.share, w.run_id, w.key
  FROM (SELECT s.org_id, s.run_id, s.key,
               (extract(epoch FROM %(now)s - s.ready_at)
                / CASE WHEN s.priority > 450 THEN 5 WHEN s.priority > 150 THEN 60 WHEN s.priority > -150 THEN 300
                       ELSE 3600 END)::float8 AS share
          FROM workflows_steprun s
         WHERE s.status = 'ready' AND s.ready_at IS NOT NULL AND s.priority > -450) w
 ORDER BY w.org_id, w.share DESC
