"""`make bench`: Headrace beside plain Celery, on the same machine, in the same run."""
