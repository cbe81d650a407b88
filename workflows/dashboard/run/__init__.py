"""The page of a run: its waterfall, its steps, what happened to it, and what is done to it."""
