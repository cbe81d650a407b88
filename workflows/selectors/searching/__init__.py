"""Finding runs by what no index knows: a bounded walk, newest first; and how many there are over time."""
