-- The groups of an organization's latest letters, the one that failed last first.
-- Parameters: org; statuses (text[]); at_most (so many letters of each status are looked at); search (a pattern for
--   ILIKE, or NULL); assigned (NULL: whoever); snoozed (bool: those too); first and number of the rows.
-- Columns: group_id, last_seen, looked_at (how many letters in all).
-- Index: dead_letter_by_status.
WITH recent AS MATERIALIZED (
    SELECT letter.group_id, letter.failed_at
      FROM unnest(%(statuses)s::text[]) AS wanted (status)
     CROSS JOIN LATERAL (
         SELECT l.group_id, l.failed_at
           FROM headrace_dlq_deadletter l
          WHERE l.org_id = %(org)s AND l.status = wanted.status
          ORDER BY l.id DESC
          LIMIT %(at_most)s
     ) AS letter
), latest AS (
    SELECT group_id, max(failed_at) AS last_seen FROM recent GROUP BY group_id
)
SELECT g.id, latest.last_seen, (SELECT count(*) FROM recent)
  FROM latest
  JOIN headrace_dlq_deadlettergroup g ON g.id = latest.group_id
 WHERE (%(snoozed)s OR g.snoozed_until IS NULL OR g.snoozed_until <= now())
   AND (%(search)s::text IS NULL OR g.error_name || ': ' || g.message || ' ' || g.location ILIKE %(search)s)
   AND (%(assigned)s::text IS NULL OR g.assigned_to = %(assigned)s)
 ORDER BY latest.last_seen DESC, g.id
 LIMIT %(number)s OFFSET %(first)s
