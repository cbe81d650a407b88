"""Reads about keys and the audit log."""
