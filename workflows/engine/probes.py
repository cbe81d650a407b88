"""Do the store and the broker answer, within a second?"""

from __future__ import annotations

import redis
from celery import current_app
from django.conf import settings
from kombu.exceptions import KombuError

PATIENCE_S = 1.0


def store_answers() -> bool:
    """Whether the throttle store (Redis or Valkey) answers a ping."""
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL, socket_connect_timeout=PATIENCE_S, socket_timeout=PATIENCE_S
        ) as client:
            return bool(client.ping())
    except (redis.RedisError, ValueError):
        return False


def broker_answers() -> bool:
    """Whether a connection to the broker can be made."""
    try:
        with current_app.connection_for_write(connect_timeout=PATIENCE_S) as connection:
            connection.ensure_connection(max_retries=1, timeout=PATIENCE_S)
            return True
    except (KombuError, redis.RedisError, OSError):
        return False
