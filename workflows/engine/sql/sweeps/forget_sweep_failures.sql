-- What a sweep could not do and has done now.
-- Parameters: sweep text, kind text, items text[].
-- Returns: nothing.
-- Index: primary key.
DELETE FROM workflows_sweepfailure WHERE sweep = %(sweep)s AND kind = %(kind)s AND item = ANY (%(items)s::text[])
