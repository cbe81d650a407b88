-- Note that ready steps are being published (count a publication), or with `published` false that it failed.
-- Parameters: ids uuid[], published bool. Returns nothing. Index: primary key.
UPDATE workflows_steprun s
   SET dispatched_at = CASE WHEN %(published)s THEN clock_timestamp() END,
       dispatch_count = s.dispatch_count + CASE WHEN %(published)s THEN 1 ELSE -1 END
  FROM (SELECT id FROM unnest(%(ids)s::uuid[]) AS u (id) ORDER BY id) w
 WHERE s.id = w.id AND s.status = 'ready'
