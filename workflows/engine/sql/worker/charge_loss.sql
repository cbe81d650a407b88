-- The process that performed this step alone is gone, and its worker lives: the try is noted, and the loss counts
-- against the step. The row stays with its worker, which records what follows. Returns no row where the lease was lost.
-- Parameters: id uuid, lease uuid or null, message text.
-- Returns: solitary_losses int.
-- Index: primary key. (`status || ''` hides the partial indexes from the planner: ADR 4.)
WITH charged AS (
    UPDATE headrace_workflows_steprun s SET losses = s.losses + 1, solitary_losses = s.solitary_losses + 1
     WHERE s.id = %(id)s AND s.lease_token = %(lease)s AND s.status || '' = 'running'
    RETURNING s.*
), tried AS (
    INSERT INTO headrace_workflows_attempt (id, org_id, run_id, step_run_id, number, status, worker_id, ready_at,
                                            started_at, ended_at, error)
    SELECT headrace_uuid7(), org_id, run_id, id, attempt, 'lost', worker_id, ready_at, started_at, clock_timestamp(),
           jsonb_build_object('category', 'resource', 'name', 'WorkerLost', 'traceback', '',
                              'message', %(message)s::text)
      FROM charged
)
SELECT solitary_losses FROM charged
