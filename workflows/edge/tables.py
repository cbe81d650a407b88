"""Whether there is what a receiver of `post_migrate` writes to: it is called too when an app is migrated away."""

from __future__ import annotations

from django.db import connection
from django.db.models import Model


def has_table(model: type[Model]) -> bool:
    """Whether the table of a model is in the database."""
    return model._meta.db_table in connection.introspection.table_names()
