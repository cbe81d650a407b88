"""Releases and servers around the processes: what an operator changes while they run."""
