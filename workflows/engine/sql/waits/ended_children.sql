-- Runs that have ended while somebody still waits for them; the first of each organization before the second of any.
-- Parameters: batch bigint, put_off uuid[] (of runs).
-- Returns: id uuid (of the run), org_id uuid.
-- Index: wait_by_child.
SELECT f.id, f.org_id FROM (
    SELECT u.*, row_number() OVER (PARTITION BY u.org_id ORDER BY u.id) AS place FROM (
        SELECT DISTINCT w.child_id AS id, w.org_id FROM headrace_workflows_wait w
          LEFT JOIN headrace_workflows_run c ON c.id = w.child_id
         WHERE w.kind = 'run' AND w.taken_at IS NULL AND w.child_id <> ALL (%(put_off)s::uuid[])
           AND (c.id IS NULL OR c.ended_at IS NOT NULL)
         LIMIT 20000) u) f
 ORDER BY f.place, f.id LIMIT %(batch)s
