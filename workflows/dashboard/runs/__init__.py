"""The list of runs: filters, views, counts over time, live rows, actions on many, export."""
