-- From now on, and for good, the keys that flows of an organization compute are stored hashed; those that are there
-- become so. The caller holds the form alone (`lock_key_form`).
-- Parameters: org uuid.
-- Returns: key text (those that were changed).
-- Indexes: primary keys.
WITH changed AS (
    UPDATE headrace_workflows_organization SET hashes_keys = true WHERE id = %(org)s AND NOT hashes_keys RETURNING id
)
UPDATE headrace_workflows_idempotencykey k
   SET key = 'f:sha256-' || encode(sha256(convert_to(substr(k.key, 3), 'UTF8')), 'hex')
  FROM changed
 WHERE k.org_id = changed.id AND starts_with(k.key, 'f:') AND NOT starts_with(k.key, 'f:sha256-')
RETURNING k.key
