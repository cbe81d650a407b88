-- Of old events those that something refers to, and what: they are kept. A run that was started by one keeps it, open
-- or ended; so does an open run that it has joined, a wait that it has ended, one that is to look back to it, and an
-- open run whose callback it may be.
-- Parameters: ids uuid[].
-- Returns: id uuid, reason text.
-- Indexes: primary keys, run_by_event, trigger_outcome_by_event, wait_taken_at, wait_not_looked_back, run_live_by_age.
WITH judged AS (
    SELECT e.id, CASE
        WHEN EXISTS (SELECT FROM headrace_workflows_run r WHERE r.event_id = e.id) THEN 'its run is kept'
        WHEN EXISTS (SELECT FROM headrace_workflows_triggeroutcome t JOIN headrace_workflows_run r ON r.id = t.run_id
                      WHERE t.event_id = e.id AND r.ended_at IS NULL) THEN 'the run that it joined is open'
        WHEN EXISTS (SELECT FROM headrace_workflows_wait w WHERE w.taken_at IS NOT NULL AND w.event_id = e.id)
            THEN 'a step waited for it'
        WHEN EXISTS (SELECT FROM headrace_workflows_wait w
                      WHERE NOT w.looked_back AND w.kind = 'event' AND w.org_id = e.org_id
                        AND e.received_at >= w.since - interval '10 seconds') THEN 'a step is to look back for it'
        WHEN e.name LIKE 'headrace/callback/%%' AND EXISTS (
            SELECT FROM headrace_workflows_run r
             WHERE r.org_id = e.org_id AND r.status IN ('queued', 'running') AND r.created_at <= e.received_at)
            THEN 'an open run may wait for it'
        END AS reason
      FROM headrace_workflows_event e WHERE e.id = ANY (%(ids)s::uuid[])
)
SELECT id, reason FROM judged WHERE reason IS NOT NULL
