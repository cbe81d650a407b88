-- Which of some running steps belong to a cancelled run (those that undo others go on).
-- Parameters: ids uuid[].
-- Returns: id uuid.
-- Indexes: primary keys.
SELECT s.id FROM headrace_workflows_steprun s JOIN headrace_workflows_run r ON r.id = s.run_id
 WHERE s.id = ANY (%(ids)s::uuid[]) AND r.cancel_requested_at IS NOT NULL AND NOT s.is_hook
