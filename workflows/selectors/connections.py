"""How many connections to Postgres the processes may have together, beside how many the server gives."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from django.db import connection

from throttling.environment import whole_number
from workflows.engine.worker.recorder import VISITORS
from workflows.selectors.runs import live_workers
from workflows.steps.registry import IO_QUEUE
from workflows.this_process.configuration import configuration

TASK_THREADS = 4
"""Of an I/O worker, as `up` and the documentation start it (`-c 4`)."""
ENGINE_THREADS = 5
"""With a connection of their own: recorder, heartbeat, leader, dispatcher, and the thread that gives permits back."""
OF_COMPUTE_CHILD = 10
"""Its task, its recorder and heartbeat, and those of detached steps that are at work at once."""
WEB_BESIDE_POOL = 6
"""Health checks, the look for streams, the writers of runs and of events, the matcher, the dispatcher."""


@dataclass(frozen=True, kw_only=True)
class Connections:
    """What the server gives to ordinary users, what is open, and what all live workers and a web process may need."""

    server: int
    open: int
    may_need: int
    io_workers: int
    compute_workers: int

    @property
    def is_short(self) -> bool:
        return self.may_need > self.server

    @property
    def warning(self) -> str:
        """For `doctor`; empty where the server has enough."""
        if not self.is_short:
            return ""
        return (
            f"Postgres gives {self.server} connections (max_connections), {self.open} are open; {self.io_workers} I/O "
            f"and {self.compute_workers} compute worker processes and one web process may need {self.may_need}. Raise "
            "max_connections, or lower HEADRACE_IO_THREADS and HEADRACE_DB_POOL_SIZE."
        )

    def as_json(self) -> dict[str, Any]:
        return {"server": self.server, "open": self.open, "mayNeed": self.may_need, "isShort": self.is_short}


def of_io_worker() -> int:
    """The most connections that an I/O worker has, by this process's settings."""
    threads = whole_number(os.environ, "HEADRACE_IO_THREADS", 16, low=1, high=10_000)
    return TASK_THREADS + VISITORS + ENGINE_THREADS + threads + _pool()


def of_web() -> int:
    """The most connections that a web process has."""
    return _pool() + WEB_BESIDE_POOL


def _pool() -> int:
    return int(configuration().web_threads)


def connections_now() -> Connections:
    """As the server and the live workers are now."""
    workers = list(live_workers())
    io = sum(IO_QUEUE in worker.queues for worker in workers)
    compute = len(workers) - io
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int "
            "- coalesce(current_setting('reserved_connections', true)::int, 0), "
            "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')"
        )
        server, open_ = cursor.fetchone()
    return Connections(
        server=server,
        open=open_,
        may_need=io * of_io_worker() + compute * OF_COMPUTE_CHILD + of_web(),
        io_workers=io,
        compute_workers=compute,
    )
