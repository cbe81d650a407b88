-- Versions that may have limits of their own (`throttling`, `concurrency`, `throttle`), in use or current. Small: one
-- row per such flow and version in use.
-- Parameters: longest_s float8 (a run that ended so long ago counts in no rate limit any more).
-- Returns: id uuid.
-- Index: primary keys.
SELECT v.id FROM headrace_workflows_flowversion v JOIN headrace_workflows_flow f ON f.id = v.flow_id
 WHERE v.definition::text ~ '"(throttling|throttle|concurrency)":'
   AND (f.current_id = v.id
        OR EXISTS (SELECT 1 FROM headrace_workflows_run r
                    WHERE r.flow_id = f.id AND r.version_id = v.id
                      AND (r.ended_at IS NULL
                           OR r.ended_at > clock_timestamp() - make_interval(secs => %(longest_s)s))))
