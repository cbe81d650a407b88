"""Plain Celery, as its documentation recommends it, for comparison: prefork, one child per core.

Two apps over the same broker: results in Redis, and results in Postgres by django-celery-results.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

BROKER = os.environ.get("BENCH_BROKER", "")
SETTINGS: dict[str, Any] = {
    "broker_connection_retry_on_startup": True,
    "worker_disable_rate_limits": True,
    "worker_send_task_events": False,
    "worker_prefetch_multiplier": 4,
    "task_compression": None,
    "result_expires": 3600,
}

redis_app = Celery("bench_redis", broker=BROKER, backend=BROKER, set_as_current=False)
redis_app.conf.update(SETTINGS, task_default_queue="bench.redis")

django_app = Celery("bench_django", broker=BROKER, backend="django-db", set_as_current=False)
django_app.conf.update(SETTINGS, task_default_queue="bench.django", CELERY_DB_REUSE_MAX=1000, db_reuse_max=1000)


@redis_app.task(name="bench.redis.noop")
def redis_noop(*_: Any) -> dict[str, bool]:
    return {"ok": True}


@redis_app.task(name="bench.redis.join")
def redis_join(results: list[Any]) -> int:
    return len(results)


@django_app.task(name="bench.django.noop")
def django_noop(*_: Any) -> dict[str, bool]:
    return {"ok": True}
