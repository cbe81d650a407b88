"""The statements of `history` that set no status."""
