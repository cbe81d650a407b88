"""Definitions as text, and as plain JSON."""
