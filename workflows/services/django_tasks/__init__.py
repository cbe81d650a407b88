"""Tasks of `django.tasks` as one-step runs: their options, their flows, enqueuing, results."""
