"""What belongs to a run and does not stand in it: its relatives, its letters, its history, its last good run."""
