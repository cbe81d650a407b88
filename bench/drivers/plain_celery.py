"""The driver of plain Celery: prefork, a child per core, results read back; `delay`, `chain` and `chord`.

BENCH_APP says which: results in Redis, or in Postgres by django-celery-results.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.drivers.wire import serve

QUIET = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR"]


def main() -> None:
    """Start the services and the worker, and do what the bench asks."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    from devtools import embedded  # noqa: PLC0415  (the environment comes first)

    embedded.use()
    os.environ["BENCH_BROKER"] = os.environ["REDIS_URL"]
    import django  # noqa: PLC0415

    django.setup()
    from django.core.management import call_command  # noqa: PLC0415

    call_command("migrate", verbosity=0, interactive=False)
    _serve()


def _serve() -> None:
    from django.conf import settings  # noqa: PLC0415

    from bench.drivers import celery_app  # noqa: PLC0415
    from bench.drivers.processes import Processes  # noqa: PLC0415

    name = os.environ["BENCH_APP"]
    if name == "redis":
        del os.environ["DJANGO_SETTINGS_MODULE"]  # no Django, no fixup: as lean as plain Celery can be
    checkout = Path(celery_app.__file__).resolve().parents[2]
    processes = Processes(Path(settings.VAR_DIR) / "log", checkout)
    app = f"bench.drivers.celery_app:{name}_app"
    options = ["-P", "prefork", "-c", "2", "-Q", f"bench.{name}", "-n", f"{name}@%h", *QUIET]
    processes.start(name, [sys.executable, "-m", "celery", "-A", app, "worker", *options])
    plain = PlainCelery({"redis": celery_app.redis_noop, "django": celery_app.django_noop}[name])
    plain.warm()

    def end() -> bool:
        processes.stop_all()
        return True

    verbs = ("warm", "lone", "fan_out", "many", "single", "chain")
    serve({**{verb: getattr(plain, verb) for verb in verbs}, "end": end})


class PlainCelery:
    """What is measured of one task: all results are waited for."""

    def __init__(self, task: Any) -> None:
        self._task = task

    def warm(self) -> bool:
        for result in self._delayed(50):
            result.get(timeout=60)
        return True

    def lone(self, *, count: int, pause_ms: float) -> list[dict[str, float]]:
        return self._several(lambda: self._chains(1)[0], count, pause_ms)

    def fan_out(self, *, count: int, width: int, pause_ms: float) -> list[dict[str, float]]:
        return self._several(lambda: self._wide(width), count, pause_ms)

    def many(self, *, runs: int) -> dict[str, float]:
        return self._timed(runs, 1, self._delayed)

    def single(self, *, runs: int, in_flight: int) -> dict[str, float]:
        return self._timed(runs, 1, self._delayed)

    def chain(self, *, runs: int) -> dict[str, float]:
        return self._timed(runs, 5, self._chains)

    def _delayed(self, runs: int) -> list[Any]:
        return [self._task.delay() for _ in range(runs)]

    def _chains(self, runs: int) -> list[Any]:
        from celery import chain  # noqa: PLC0415

        return [chain(*[self._task.s() for _ in range(5)]).apply_async() for _ in range(runs)]

    def _wide(self, width: int) -> Any:
        from celery import chord, group  # noqa: PLC0415

        from bench.drivers import celery_app  # noqa: PLC0415

        return chord(group(self._task.s() for _ in range(width)))(celery_app.redis_join.s())

    def _several(self, send: Callable[[], Any], count: int, pause_ms: float) -> list[dict[str, float]]:
        found = []
        for _ in range(count):
            time.sleep(pause_ms / 1e3)
            called = time.perf_counter()
            send().get(timeout=120, interval=0.0005)
            spent = (time.perf_counter() - called) * 1e3
            found.append({"own_ms": spent, "call_ms": spent, "client_ms": spent})
        return found

    def _timed(self, runs: int, steps: int, send: Callable[[int], list[Any]]) -> dict[str, float]:
        called = time.perf_counter()
        results = send(runs)
        stored = time.perf_counter() - called
        for result in results:
            result.get(timeout=120, interval=0.005)
        ended = time.perf_counter() - called
        return {"stored_per_s": runs / stored, "executed_per_s": runs / ended, "steps_per_s": runs * steps / ended}
