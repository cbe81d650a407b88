-- What a sweep gives up: nobody tries it again.
-- Parameters: sweep text, items text[].
-- Returns: nothing.
-- Index: primary key.
UPDATE headrace_workflows_sweepfailure SET given_up_at = clock_timestamp()
 WHERE sweep = %(sweep)s AND kind = 'fails' AND item = ANY (%(items)s::text[])
