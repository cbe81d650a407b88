"""The statements of `claim` that set no status."""
