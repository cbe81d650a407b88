-- What a sweep could not do and has done now.
-- Parameters: sweep text, kind text, items text[].
-- Returns: nothing.
-- Index: primary key.
DELETE FROM headrace_workflows_sweepfailure WHERE sweep = %(sweep)s AND kind = %(kind)s
    AND item = ANY (%(items)s::text[])
