"""A large database, and how long pages and queries take on it: `manage.py bench seed` and `manage.py bench pages`."""
