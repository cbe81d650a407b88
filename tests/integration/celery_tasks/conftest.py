"""Another application with a broker and workers of its own, whose tasks steps run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.shop.workers import Shop
from tests.support.workers import WorkerPool
from workflows.this_process.configuration import configuration


@pytest.fixture
def shop(worker_environment: dict[str, str], tmp_path: Path) -> Iterator[Shop]:
    """Its broker is another database of the store."""
    broker = configuration().redis_url.removesuffix("/0") + "/5"
    with redis.Redis.from_url(broker) as store:
        store.flushdb()
    shop = Shop(worker_environment, tmp_path / "shop.log", broker)
    yield shop
    shop.stop()


@pytest.fixture
def watchers(own_workers: WorkerPool, shop: Shop) -> WorkerPool:
    """An I/O worker of Headrace, which sends to the shop."""
    own_workers.start("io", **shop.environment)
    own_workers.await_ready(1)
    return own_workers
