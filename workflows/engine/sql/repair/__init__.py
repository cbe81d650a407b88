"""The statements of `repair` that set no status."""
