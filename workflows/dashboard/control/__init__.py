"""The pages of control: keys, secrets, retention and the audit log."""
