-- What became of runs and tries within one minute, by organization, and the sum of all under the nil id. A minute that
-- is there already stays as it is.
-- Parameters: at timestamptz, first uuid (the smallest uuid7 of the minute), next uuid (that of the minute after),
--   looks bool (count the steps that wait now, too), most bigint (so many of each kind of them at most).
-- Returns: nothing.
-- Indexes: run_ended (three ranges for each organization), primary key of attempts, step_run_ready, step_run_parked.
INSERT INTO headrace_workflows_minutecounts (org_id, at, completed, failed, cancelled, tries, retries, waited_ms,
                                             longest_wait_ms, backlog, oldest_ms)
SELECT COALESCE(p.org_id, '00000000-0000-0000-0000-000000000000'), %(at)s,
       COALESCE(sum(p.completed), 0), COALESCE(sum(p.failed), 0), COALESCE(sum(p.cancelled), 0),
       COALESCE(sum(p.tries), 0), COALESCE(sum(p.retries), 0), COALESCE(sum(p.waited_ms), 0),
       COALESCE(max(p.longest_wait_ms), 0),
       CASE WHEN %(looks)s THEN COALESCE(sum(p.backlog), 0) END, max(p.oldest_ms)
  FROM (
    SELECT o.id AS org_id, count(r.status) FILTER (WHERE r.status = 'completed') AS completed,
           count(r.status) FILTER (WHERE r.status = 'failed') AS failed,
           count(r.status) FILTER (WHERE r.status = 'cancelled') AS cancelled,
           0 AS tries, 0 AS retries, 0 AS waited_ms, NULL::float8 AS longest_wait_ms, 0 AS backlog,
           NULL::float8 AS oldest_ms
      FROM headrace_workflows_organization o
     CROSS JOIN (VALUES ('completed'), ('failed'), ('cancelled')) AS s (status)
     CROSS JOIN LATERAL (SELECT e.status FROM headrace_workflows_run e
                          WHERE e.org_id = o.id AND e.status = s.status AND e.ended_at IS NOT NULL
                            AND e.ended_at >= %(at)s AND e.ended_at < %(at)s + interval '1 minute') r
     GROUP BY o.id
     UNION ALL
    SELECT a.org_id, 0, 0, 0, count(*), count(*) FILTER (WHERE a.number > 1),
           COALESCE(sum(extract(epoch FROM a.started_at - a.ready_at)) * 1000, 0)::bigint,
           max(extract(epoch FROM a.started_at - a.ready_at))::float8 * 1000, 0, NULL
      FROM headrace_workflows_attempt a WHERE a.id >= %(first)s AND a.id < %(next)s
     GROUP BY a.org_id
     UNION ALL
    SELECT w.org_id, 0, 0, 0, 0, 0, 0, NULL, count(*),
           extract(epoch FROM clock_timestamp() - min(w.ready_at))::float8 * 1000
      FROM ((SELECT s.org_id, s.ready_at FROM headrace_workflows_steprun s
              WHERE s.status = 'ready' AND s.waiting_for = '' AND %(looks)s LIMIT %(most)s)
             UNION ALL
            (SELECT s.org_id, s.ready_at FROM headrace_workflows_steprun s
              WHERE s.status = 'ready' AND s.waiting_for = 'limit' AND %(looks)s ORDER BY s.id LIMIT %(most)s)) w
     GROUP BY w.org_id
  ) p
 GROUP BY GROUPING SETS ((p.org_id), ())
    ON CONFLICT (org_id, at) DO NOTHING
