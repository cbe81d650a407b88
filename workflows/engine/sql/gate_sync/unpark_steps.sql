-- Ready steps that are to be admitted anew: those named, or (ids null, after the loss of the store) all.
-- Parameters: ids uuid[] or null.
-- Returns: nothing.
-- Indexes: primary key; step_run_ready, step_run_parked.
UPDATE headrace_workflows_steprun s SET waiting_for = '', dispatched_at = NULL
 WHERE s.status = 'ready' AND (%(ids)s::uuid[] IS NULL OR s.id = ANY (%(ids)s::uuid[]))
   AND (s.waiting_for <> '' OR s.dispatched_at IS NOT NULL)
