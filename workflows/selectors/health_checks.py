"""Do Postgres, the store and the broker answer?"""

from __future__ import annotations

from typing import Any

import psycopg
import redis
from kombu.exceptions import KombuError

from workflows.engine.state import database
from workflows.models.worker import SILENT_AFTER_S
from workflows.this_process.celery_app import app
from workflows.this_process.configuration import configuration

PATIENCE_S = 1.0


async def database_answers() -> bool:
    """Whether a new connection to Postgres can be made and answers; as long as that takes."""
    return await _ask("SELECT true")


async def workers_alive() -> bool:
    """Whether a worker was seen lately, over a new connection. Raises psycopg.Error where Postgres does not answer."""
    return await _ask(database.statement("worker_seen"), {"silent_s": SILENT_AFTER_S})


async def _ask(statement: str, parameters: dict[str, Any] | None = None) -> bool:
    async with await psycopg.AsyncConnection.connect(**database.parameters(), autocommit=True) as own:
        cursor = await own.execute(statement, parameters)
        row = await cursor.fetchone()
        return bool(row and row[0])


def store_answers() -> bool:
    """Whether the throttle store (Redis or Valkey) answers a ping."""
    try:
        with redis.Redis.from_url(
            configuration().redis_url, socket_connect_timeout=PATIENCE_S, socket_timeout=PATIENCE_S
        ) as client:
            return bool(client.ping())
    except (redis.RedisError, ValueError):
        return False


def broker_answers() -> bool:
    """Whether a connection to the broker can be made."""
    try:
        with app.connection_for_write(connect_timeout=PATIENCE_S) as connection:
            connection.ensure_connection(max_retries=1, timeout=PATIENCE_S)
            return True
    except (KombuError, redis.RedisError, OSError):
        return False
