"""The REST API (django-ninja): an edge, with no rule of its own."""
