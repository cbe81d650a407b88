"""Failures as they become dead letters, and causes."""
