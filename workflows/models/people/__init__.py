"""Who may do what, and what people have done: memberships, logins, the audit log, what a login keeps for itself."""
