"""The step types, one file each."""
