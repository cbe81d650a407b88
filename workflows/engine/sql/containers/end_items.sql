-- Steps in containers have ended: count down their items, end those whose last steps have ended or one of whose
-- critical steps has failed, and count those for their containers. After a failure for lack of resources a map works on
-- half as many items at a time, and a batch halves the part that failed. Returns a row per container. Containers are
-- locked in the order of their ids.
-- Parameters: ended text (a JSON array of {id (of the step run), fatal, resource, error}), max_bytes bigint (of all
--   outputs in a container: beyond it, it stops).
-- Returns: step_run_id uuid, over bool (everything has ended, or it is to stop), room bool (it may open more), stopping
--   bool, stopped int[] or null (the items that have failed now, or were halved), split int[] (the latter of these),
--   around uuid or null (the container around one that is cancelled already).
-- Indexes: primary keys.
WITH ended AS MATERIALIZED (
    SELECT s.container_id, s.index, count(*) FILTER (WHERE s.is_sink AND NOT e.fatal)::int AS sinks,
           bool_or(e.fatal) AS fatal, bool_or(e.fatal AND e.resource) AS resource,
           sum(pg_column_size(s.output)) AS bytes, (array_agg(e.error) FILTER (WHERE e.fatal))[1] AS error
      FROM json_to_recordset(%(ended)s::json) AS e (id uuid, fatal bool, resource bool, error jsonb)
      JOIN headrace_workflows_steprun s ON s.id = e.id
     GROUP BY s.container_id, s.index
), fan AS MATERIALIZED (
    SELECT f.* FROM headrace_workflows_fanout f WHERE f.step_run_id IN (SELECT container_id FROM ended)
     ORDER BY f.step_run_id FOR UPDATE
), item AS (
    UPDATE headrace_workflows_item i
       SET sinks_left = i.sinks_left - e.sinks,
           status = CASE WHEN e.resource AND f.kind = 'batch' AND i.size > 1 THEN 'split'
                         WHEN e.fatal THEN 'failed' WHEN i.sinks_left <= e.sinks THEN 'completed' ELSE i.status END,
           error = e.error
      FROM ended e JOIN fan f ON f.step_run_id = e.container_id
     WHERE i.container_id = e.container_id AND i.index = e.index AND i.status = 'open'
    RETURNING i.*, COALESCE(e.resource, false) AS resource
), half AS (
    INSERT INTO headrace_workflows_item (container_id, index, position, size, value, status, sinks_left)
    SELECT i.container_id, f.total - 1 + (row_number() OVER (PARTITION BY i.container_id ORDER BY i.index, h.nr))::int,
           CASE WHEN h.nr = 0 THEN i.position ELSE i.position + i.size / 2 END,
           CASE WHEN h.nr = 0 THEN i.size / 2 ELSE i.size - i.size / 2 END,
           (SELECT jsonb_agg(v.value ORDER BY v.nr) FROM jsonb_array_elements(i.value) WITH ORDINALITY v (value, nr)
             WHERE (v.nr <= i.size / 2) = (h.nr = 0)), 'pending', 0
      FROM item i
      JOIN fan f ON f.step_run_id = i.container_id
     CROSS JOIN (VALUES (0), (1)) AS h (nr)
     WHERE i.status = 'split'
), counted AS (
    UPDATE headrace_workflows_fanout f
       SET bytes = f.bytes + c.bytes, open = f.open - c.ended, ended = f.ended + c.ended, failed = f.failed + c.failed,
           total = f.total + 2 * c.split,
           parallelism = CASE WHEN c.resource AND f.kind = 'map' THEN greatest(1, f.parallelism / 2)
                              ELSE f.parallelism END,
           stopping = f.stopping OR f.bytes + c.bytes > %(max_bytes)s
                      OR (f.max_failures IS NOT NULL AND f.failed + c.failed > f.max_failures),
           changed_at = clock_timestamp()
      FROM (SELECT e.container_id, COALESCE(sum(e.bytes), 0)::bigint AS bytes,
                   count(*) FILTER (WHERE i.status <> 'open')::int AS ended,
                   COALESCE(sum(i.size) FILTER (WHERE i.status = 'failed'), 0)::int AS failed,
                   count(*) FILTER (WHERE i.status = 'split')::int AS split, bool_or(i.resource) AS resource,
                   array_agg(i.index) FILTER (WHERE i.status IN ('failed', 'split')) AS stopped
              FROM ended e LEFT JOIN item i ON i.container_id = e.container_id AND i.index = e.index
             GROUP BY e.container_id) c
     WHERE f.step_run_id = c.container_id
    RETURNING f.*, c.stopped
)
SELECT c.step_run_id, c.ended = c.total OR c.stopping AS over,
       NOT c.stopping AND c.open < c.parallelism AND c.next_index < c.total AS room, c.stopping, c.stopped,
       ARRAY(SELECT i.index FROM item i WHERE i.container_id = c.step_run_id AND i.status = 'split') AS split,
       (SELECT s.container_id FROM headrace_workflows_steprun s
           WHERE s.id = c.step_run_id AND s.status <> 'waiting') AS around
  FROM counted c
