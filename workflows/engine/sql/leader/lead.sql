-- Take or keep the leader's lease. Returns a row where this process leads.
-- Parameters: name text, holder uuid, lease_s float8.
-- Returns: holder uuid.
-- Index: primary key.
INSERT INTO headrace_workflows_leaderlease AS l (name, holder, expires_at)
VALUES (%(name)s, %(holder)s, clock_timestamp() + make_interval(secs => %(lease_s)s))
ON CONFLICT (name) DO UPDATE SET holder = EXCLUDED.holder, expires_at = EXCLUDED.expires_at
 WHERE l.holder = EXCLUDED.holder OR l.expires_at < clock_timestamp()
RETURNING l.holder
