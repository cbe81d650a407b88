-- What sweeps could not do lately, and is tried again. Parameters: none. Returns the rows, the oldest 20,000; in the good
-- case there is none. Index: primary key.
SELECT sweep, kind, item, tries, since, try_again_at FROM workflows_sweepfailure
 WHERE given_up_at IS NULL ORDER BY since LIMIT 20000
