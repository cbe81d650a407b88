-- Starts that no rate limit counts any more, whatever its period: 31 days at most.
-- Parameters: first uuid (the smallest uuid7 of that time), batch bigint.
-- Returns: nothing.
-- Index: primary key.
DELETE FROM headrace_workflows_runstart
 WHERE id IN (SELECT id FROM headrace_workflows_runstart WHERE id < %(first)s ORDER BY id LIMIT %(batch)s)
