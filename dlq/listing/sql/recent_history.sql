-- How many letters groups got in each hour, of the organization's latest letters.
-- Parameters: org; groups (uuid[]); since; at_most (so many letters are looked at).
-- Columns: group_id, hour, number; with group NULL: how many were looked at.
-- Index: dead_letter_by_time.
WITH recent AS MATERIALIZED (
    SELECT group_id, failed_at
      FROM headrace_dlq_deadletter
     WHERE org_id = %(org)s AND failed_at >= %(since)s
     ORDER BY failed_at DESC
     LIMIT %(at_most)s
)
SELECT group_id, date_trunc('hour', failed_at, 'UTC'), count(*)
  FROM recent
 WHERE group_id = ANY(%(groups)s::uuid[])
 GROUP BY 1, 2
UNION ALL
SELECT NULL, NULL, count(*) FROM recent
