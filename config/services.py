"""The database and the store: those that the environment names, or embedded ones for development and tests."""

from __future__ import annotations

from config import env


def use_services() -> None:
    """Where neither DATABASE_URL nor REDIS_URL is set: start embedded services (`devtools`) and set both. Idempotent.

    Raises ServicesError where only one is set, or where they can't be started.
    """
    environment = env.read()
    if environment.database_url and environment.redis_url:
        return
    if environment.database_url or environment.redis_url:
        missing = "REDIS_URL" if environment.database_url else "DATABASE_URL"
        raise env.ServicesError(f"{missing} is not set: set both addresses, or neither to use the embedded services.")
    from devtools import embedded  # noqa: PLC0415  (production does without it)

    embedded.use()
