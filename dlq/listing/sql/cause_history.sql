-- How many letters one group got in each hour, of its latest letters.
-- Parameters: group; statuses (text[]); since; at_most (so many of each status are looked at).
-- Columns: hour, number.
-- Index: dead_letter_by_group.
SELECT date_trunc('hour', letter.failed_at, 'UTC') AS hour, count(*)
  FROM unnest(%(statuses)s::text[]) AS wanted (status)
 CROSS JOIN LATERAL (
     SELECT l.failed_at
       FROM headrace_dlq_deadletter l
      WHERE l.group_id = %(group)s AND l.status = wanted.status
      ORDER BY l.id DESC
      LIMIT %(at_most)s
 ) AS letter
 WHERE letter.failed_at >= %(since)s
 GROUP BY 1
