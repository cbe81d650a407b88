-- The secrets of an organization, encrypted. Parameters: org uuid. Index: secret_name.
SELECT name, ciphertext FROM workflows_secret WHERE organization_id = %(org)s
