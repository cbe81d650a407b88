-- Delete a batch of what was observed: what is older than `keep_s`, and what is beyond the newest `most`.
-- Parameters: keep_s float8, most bigint, batch bigint.
-- Returns: id text.
-- Index: observed_by_time.
DELETE FROM headrace_workflows_observedtask t
 USING (SELECT o.id FROM headrace_workflows_observedtask o
         WHERE o.seen_at < greatest(
                   clock_timestamp() - make_interval(secs => %(keep_s)s),
                   (SELECT n.seen_at FROM headrace_workflows_observedtask n ORDER BY n.seen_at DESC, n.id DESC
                    OFFSET %(most)s LIMIT 1))
         ORDER BY o.seen_at, o.id LIMIT %(batch)s FOR UPDATE SKIP LOCKED) gone
 WHERE t.id = gone.id
RETURNING t.id
