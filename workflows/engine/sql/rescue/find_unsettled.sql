-- Live runs that need a hand: those that are bound to fail or cancelled, where something is open that will not start,
-- or nothing is open or runs any more; or (with `deep`, which looks at every live run) those without any open step.
-- Runs whose last steps still execute, or are being undone, settle themselves. The first of each organization comes
-- before the second of any.
-- Parameters: batch bigint, deep bool, put_off uuid[].
-- Returns: id uuid, org_id uuid, finished bool (every step has ended, the run has not).
-- Index: run_unsettled, run_live_by_age (deep), step_run_identity.
SELECT f.id, f.org_id, f.finished FROM (
    SELECT u.id, u.org_id, u.finished, row_number() OVER (PARTITION BY u.org_id ORDER BY u.id) AS place FROM (
        SELECT b.id, b.org_id, NOT b.is_open AS finished FROM (
            SELECT r.id, r.org_id, EXISTS (SELECT 1 FROM headrace_workflows_steprun s
                                            WHERE s.run_id = r.id
                                              AND s.status IN ('pending', 'ready', 'running', 'waiting')) AS is_open
              FROM headrace_workflows_run r
             WHERE r.status IN ('queued', 'running') AND r.id <> ALL (%(put_off)s::uuid[])
               AND (r.error IS NOT NULL OR r.cancel_requested_at IS NOT NULL)) b
         WHERE NOT b.is_open OR EXISTS (SELECT 1 FROM headrace_workflows_steprun s
             WHERE s.run_id = b.id AND NOT s.is_hook
                                           AND s.status IN ('pending', 'ready', 'waiting'))
        UNION ALL
        SELECT r.id, r.org_id, true
          FROM headrace_workflows_run r
         WHERE %(deep)s AND r.status IN ('queued', 'running') AND r.id <> ALL (%(put_off)s::uuid[])
           AND r.error IS NULL AND r.cancel_requested_at IS NULL
           AND NOT EXISTS (SELECT 1 FROM headrace_workflows_steprun s WHERE s.run_id = r.id
                              AND s.status IN ('pending', 'ready', 'running', 'waiting'))
         LIMIT 20000) u) f
 ORDER BY f.place, f.id LIMIT %(batch)s
