-- Open waits for events, by name (or pattern), path and hashed value.
-- Parameters: org uuid, names text[], paths text[], hashes text[] (one each per look-up).
-- Returns: step_run_id uuid, run_id uuid, version_id uuid, event_name text, match_path text, value_hash text, condition
--   text.
-- Index: wait_by_event.
SELECT w.step_run_id, w.run_id, r.version_id, w.event_name, w.match_path, w.value_hash, w.condition
  FROM (SELECT DISTINCT *
          FROM unnest(%(names)s::text[], %(paths)s::text[], %(hashes)s::text[]) AS t (name, path, hash)) t
  JOIN headrace_workflows_wait w ON w.org_id = %(org)s AND w.kind = 'event' AND w.taken_at IS NULL
      AND w.event_name = t.name
                       AND w.match_path = t.path AND w.value_hash = t.hash
  JOIN headrace_workflows_run r ON r.id = w.run_id
