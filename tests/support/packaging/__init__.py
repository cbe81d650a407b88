"""The wheel, and projects that have it installed."""
