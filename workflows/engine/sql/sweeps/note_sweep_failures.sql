-- Note what a sweep could not do; each further time doubles the pause before the next, up to `longest_s`. Returns the
-- rows as they are now.
-- Parameters: sweep text, kind text, items text[] (distinct), orgs uuid[] with nulls, errors text[], longest_s float8.
-- Returns: sweep text, kind text, item text, tries int, since timestamptz, try_again_at timestamptz.
-- Index: primary key.
INSERT INTO headrace_workflows_sweepfailure AS f (sweep, kind, item, org_id, error, tries, since, last_at, try_again_at)
SELECT %(sweep)s, %(kind)s, w.item, w.org_id, w.error, 1, clock_timestamp(), clock_timestamp(),
       clock_timestamp() + interval '1 second'
  FROM unnest(%(items)s::text[], %(orgs)s::uuid[], %(errors)s::text[]) AS w (item, org_id, error)
 ORDER BY w.item
ON CONFLICT (sweep, kind, item) DO UPDATE
   SET error = EXCLUDED.error, last_at = clock_timestamp(),
       tries = CASE WHEN f.given_up_at IS NULL THEN f.tries + 1 ELSE 1 END,
       since = CASE WHEN f.given_up_at IS NULL THEN f.since ELSE clock_timestamp() END,
       given_up_at = NULL,
       try_again_at = clock_timestamp() + make_interval(secs => least(power(2, least(f.tries, 20)), %(longest_s)s))
RETURNING sweep, kind, item, tries, since, try_again_at
