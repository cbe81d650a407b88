-- What sweeps could not do lately, and is tried again. The oldest 20,000; in the good case there is none.
-- Parameters: none.
-- Returns: sweep text, kind text, item text, tries int, since timestamptz, try_again_at timestamptz.
-- Index: primary key.
SELECT sweep, kind, item, tries, since, try_again_at FROM headrace_workflows_sweepfailure
 WHERE given_up_at IS NULL ORDER BY since LIMIT 20000
