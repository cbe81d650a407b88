"""Workers of the shop as real processes, and what they have executed."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.workers import await_that


class Shop:
    """The other application: its environment, its workers and its log."""

    def __init__(self, environment: Mapping[str, str], log: Path, broker: str) -> None:
        self.log = log
        log.touch()
        self.broker = broker
        self.environment = {
            "SHOP_BROKER": broker,
            "SHOP_BACKEND": broker,
            "SHOP_LOG": str(log),
            "HEADRACE_CELERY_APP": "tests.support.shop:app",
        }
        self.everything = {**environment, **self.environment}
        self.everything.pop("DJANGO_SETTINGS_MODULE", None)  # with it Celery sets up Django, and with that Headrace
        self._workers: list[subprocess.Popen[bytes]] = []
        self._numbers = itertools.count()

    def start(
        self, *arguments: str, pool: str = "prefork", queues: str = "shop,shop.parcels", **more: str
    ) -> subprocess.Popen[bytes]:
        """Start a worker, and wait until it consumes."""
        name = f"shop{next(self._numbers)}-{os.getpid()}@localhost"
        command = [
            sys.executable, "-m", "tests.support.shop", "worker", "-P", pool, "-c", "2", "-Q", queues, "-n", name,
            "-l", "INFO", "--without-gossip", "--without-mingle", *arguments,
        ]  # fmt: skip
        path = self.log.with_name(f"{name}.log")
        with path.open("ab") as log:
            worker = subprocess.Popen(
                command, env={**self.everything, **more}, stdout=log, stderr=log, start_new_session=True
            )
        self._workers.append(worker)
        await_that(lambda: name in self.lines("worker", "ready"), 60, "a worker of the shop")
        return worker

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """SIGKILL to the worker and its children."""
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        self._workers.remove(worker)

    def stop(self) -> None:
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            try:
                worker.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()
        self._workers.clear()

    def lines(self, name: str, what: str = "runs") -> list[str]:
        """The ids of the tasks of a name, one for each time that they did something."""
        rows = (line.split() for line in self.log.read_text().splitlines())
        return [row[1] for row in rows if row[0] == name and row[2] == what]
