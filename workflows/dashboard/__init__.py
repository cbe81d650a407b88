"""The dashboard: Django templates and htmx, behind a login."""
