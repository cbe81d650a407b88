"""Counts of what organizations bring, beside the gate."""
