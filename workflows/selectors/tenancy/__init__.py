"""Reads of an organization's members and quotas."""
