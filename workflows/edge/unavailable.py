"""Which errors may pass: Postgres or the store is away for now, and the same work may succeed in a moment."""

from __future__ import annotations

import psycopg
import redis
from django.db import Error as DjangoDatabaseError
from django.db import InterfaceError, OperationalError
from kombu.exceptions import OperationalError as BrokerError

from throttling.errors import EpochClosed, StoreUnavailable
from workflows.errors import IdempotencyConflict, UnloadableVersion

RETRY_AFTER_S = 5
CONNECTION_ERRORS = (OperationalError, InterfaceError, psycopg.OperationalError, psycopg.InterfaceError)
"""By Django and by the driver, whose own errors the engine's statements raise."""
_AWAY_STATES = ("08", "57P", "53300")
"""SQLSTATEs of the connection, of a server that shuts down or starts, and of too many connections."""
_PASSING_STATES = ("08", "25006", "40", "53", "55P03", "57", "58")
"""SQLSTATEs of the connection, of a standby during a failover (read only), of transaction rollback (a deadlock), of
resources, of a lock that is not available, of intervention and of the system."""
_STORE_ERRORS = (StoreUnavailable, EpochClosed, redis.ConnectionError, redis.TimeoutError, BrokerError)


def missing_service(error: BaseException | None) -> str:
    """The name of the service that an error says is away for now; empty for every other error."""
    if isinstance(error, _STORE_ERRORS):
        return "the store (Redis or Valkey)"
    return "Postgres" if _has_state(error, _PASSING_STATES) else ""


def is_database_away(error: BaseException) -> bool:
    """Whether the connection or the server is the cause of an error (Django's or the driver's), not the statement."""
    return _has_state(error, _AWAY_STATES)


def may_pass(error: BaseException) -> bool:
    """Whether the same work may succeed later, so that its item must not be given up for this error: a service is away,
    another transaction holds a lock or a key, or the version is one that another process may load."""
    if isinstance(error, UnloadableVersion):
        return error.newer
    return isinstance(error, IdempotencyConflict) or bool(missing_service(error))


def _has_state(error: BaseException | None, states: tuple[str, ...]) -> bool:
    """Whether a database error has an SQLSTATE that begins so. One without any comes from the connection."""
    if not isinstance(error, DjangoDatabaseError | psycopg.Error):
        return False
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    state = cause.sqlstate if isinstance(cause, psycopg.Error) else None
    if state:
        return state.startswith(states)
    return isinstance(error, CONNECTION_ERRORS)


def sentence(service: str) -> str:
    """What to tell a person at an address: nothing of the request was stored."""
    return f"{service[0].upper()}{service[1:]} does not answer. Nothing was stored; send it again in a moment."


def command_sentence(service: str, error: BaseException) -> str:
    """What to tell a person at a terminal."""
    setting = "DATABASE_URL" if service == "Postgres" else "REDIS_URL"
    first_line = str(error).strip().partition("\n")[0]
    return f"{service[0].upper()}{service[1:]} does not answer ({first_line}). Start it, or correct {setting}."
