-- A step of the last round of a loop, whose scope is that of the round. Parameters: id uuid (of the loop), index int, key
-- text. Returns: id, output. Index: step_run_item.
SELECT s.id, s.output FROM workflows_steprun s WHERE s.container_id = %(id)s AND s.index = %(index)s AND s.key = %(key)s
