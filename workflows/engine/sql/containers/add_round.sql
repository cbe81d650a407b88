-- One more round of a loop, unless another process has added it.
-- Parameters: id uuid, total int (rounds so far), value text (JSON).
-- Returns: step_run_id uuid.
-- Index: primary key.
WITH more AS (
    UPDATE headrace_workflows_fanout f SET total = f.total + 1, changed_at = clock_timestamp()
     WHERE f.step_run_id = %(id)s AND f.total = %(total)s AND f.ended = f.total
    RETURNING f.step_run_id, f.total
)
INSERT INTO headrace_workflows_item (container_id, index, position, size, value, status, sinks_left)
SELECT step_run_id, total - 1, total - 1, 1, %(value)s::jsonb, 'pending', 0 FROM more
RETURNING container_id AS step_run_id
