-- Note that ready steps wait for a limit, so that no sweep takes them for lost. Only those that have waited for a while
-- are noted: most are handed over before.
-- Parameters: ids uuid[].
-- Returns: nothing.
-- Index: primary key. (`status || ''` hides the partial indexes from the planner: ADR 4.)
UPDATE headrace_workflows_steprun s SET waiting_for = 'limit', dispatched_at = NULL, dispatch_count = least(1,
    s.dispatch_count)
  FROM (SELECT id FROM unnest(%(ids)s::uuid[]) AS u (id) ORDER BY id) w
 WHERE s.id = w.id AND s.status || '' = 'ready'
