-- The paths by which open waits for events of some names want values to be compared: one look into the index for each.
-- Parameters: org uuid, names text[] (names and patterns).
-- Returns: name text, path text.
-- Index: wait_by_event.
WITH RECURSIVE term AS (
    SELECT n.name, (SELECT min(w.match_path) FROM headrace_workflows_wait w
                     WHERE w.org_id = %(org)s AND w.kind = 'event' AND w.taken_at IS NULL
                       AND w.event_name = n.name) AS path
      FROM unnest(%(names)s::text[]) AS n (name)
    UNION ALL
    SELECT t.name, (SELECT min(w.match_path) FROM headrace_workflows_wait w
                     WHERE w.org_id = %(org)s AND w.kind = 'event' AND w.taken_at IS NULL AND w.event_name = t.name
                       AND w.match_path > t.path)
      FROM term t WHERE t.path IS NOT NULL
)
SELECT name, path FROM term WHERE path IS NOT NULL
