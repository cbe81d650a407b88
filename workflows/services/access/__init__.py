"""Who may what, and who did what: uses of keys, the audit log, redaction, sources of secrets."""
