-- How many letters groups have, by status, counted up to a bound.
-- Parameters: groups (uuid[]); statuses (text[]); at_most.
-- Columns: group_id, status, number.
-- Index: dead_letter_by_group, alone.
SELECT g.id, s.status, (
           SELECT count(*) FROM (
               SELECT 1 FROM headrace_dlq_deadletter l WHERE l.group_id = g.id AND l.status = s.status LIMIT %(at_most)s
           ) AS counted
       )
  FROM unnest(%(groups)s::uuid[]) AS g (id)
 CROSS JOIN unnest(%(statuses)s::text[]) AS s (status)
