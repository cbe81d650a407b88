-- The tables whose rows steps wait for, each once, however many do.
-- Parameters: none.
-- Returns: table_name text.
-- Index: model_wait_by_table.
WITH RECURSIVE t AS (
    (SELECT table_name FROM headrace_workflows_modelwait ORDER BY table_name LIMIT 1)
    UNION ALL
    SELECT (SELECT w.table_name FROM headrace_workflows_modelwait w WHERE w.table_name > t.table_name
             ORDER BY w.table_name LIMIT 1)
      FROM t WHERE t.table_name IS NOT NULL
)
SELECT table_name FROM t WHERE table_name IS NOT NULL
