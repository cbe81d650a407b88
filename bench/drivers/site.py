"""The site that a driver measures: an organization, flows, and the I/O worker as `up` starts it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from django.db import connection

from bench.drivers.processes import Processes
from bench.drivers.wire import Effects
from config import settings
from config.env import BASE_DIR
from devtools.processes import Ports, commands
from workflows import services
from workflows.definitions.validate import parse
from workflows.functions import flows
from workflows.models import AccessKey, Organization

KINDS = {"effects": "bench_effect", "noops": "noop"}
WIDTH = 200
PATIENCE_S = 600.0


class Site:
    """Flows of side-effecting steps (`five-effects` …) and of no-ops (`five-noops` …)."""

    def __init__(self, effects: Effects) -> None:
        self.effects = effects
        self.organization, _ = Organization.objects.get_or_create(slug="bench", defaults={"name": "Bench"})
        self.var = Path(settings.VAR_DIR)
        self.processes = Processes(self.var / "log", BASE_DIR)
        self.ports = Ports.any_free()
        self.commands = {name: line.replace("%%", "%") for name, line in commands(self.ports).items()}
        for kind, type_ in KINDS.items():
            self._publish(f"one-{kind}", [{"id": "a", "type": type_}])
            self._publish(f"five-{kind}", [{"id": f"s{number}", "type": type_} for number in range(5)])
            wide = [{"id": f"p{number}", "type": type_, "needs": []} for number in range(WIDTH)]
            self._publish(f"wide-{kind}", [*wide, {"id": "join", "type": type_, "needs": [s["id"] for s in wide]}])
        for flow in flows.known():
            services.apply_definition(self.organization, flow.spec())
        self._publish("queue", [{"id": "a", "type": "noop", "throttling": {"concurrency": 1}}])
        self._publish("row", [{"id": f"s{number}", "type": "noop"} for number in range(200)])
        self._publish("by-hand", [{"id": "a", "type": "noop", "config": {"output": "${ input }"}}],
                      on=[{"event": "bench/by-hand"}])  # fmt: skip
        self._publish("on-event", [{"id": "a", "type": "bench_effect"}], on=[{"event": "bench/happened"}])

    def _publish(self, slug: str, steps: list[dict[str, Any]], **more: Any) -> None:
        services.apply_definition(self.organization, parse({"flow": slug, "steps": steps, **more}))

    def work(self) -> bool:
        """Have the I/O worker work again."""
        self.start_worker()
        return True

    def start_worker(self, **environment: str) -> None:
        """Our I/O worker, anew where it runs already; it is at work when this returns."""
        if "worker-io" in self.processes.running:
            self.processes.stop("worker-io")
        self.processes.start("worker-io", self.commands["worker-io"], **environment)
        self.await_worker()
        for _ in range(3):
            self.warm()

    def await_worker(self) -> None:
        """Wait until the worker has just been seen, and has sized the queues."""
        since = self._now()
        while not self._one(
            "SELECT count(*) FROM headrace_workflows_worker WHERE seen_at > %s AND 'headrace.io' = ANY (queues)",
            [since],
        ):
            time.sleep(0.05)
        time.sleep(0.3)

    def warm(self) -> bool:
        """Fifty runs of five steps, of either kind."""
        for kind in KINDS:
            services.trigger_many(self.organization, f"five-{kind}", [{}] * 50)
        self.await_idle()
        return True

    def wake(self) -> bool:
        """After a time in which all processes were stopped: wait until they are themselves again."""
        self.await_worker()
        return self.warm()

    def await_idle(self, pause_s: float = 0.1, pause: Callable[[], object] | None = None) -> None:
        """Wait until no run is live, and meanwhile do what `pause` does. Raises RuntimeError where that takes too long:
        a worker that has died ends none."""
        sql = (
            "SELECT EXISTS (SELECT 1 FROM headrace_workflows_run WHERE org_id = %s AND status IN ('queued', 'running'))"
        )
        until = time.monotonic() + PATIENCE_S
        while self._one(sql, [self.organization.id]):
            if time.monotonic() > until:
                raise RuntimeError(f"runs are live after {PATIENCE_S:.0f} s; see the log of the worker")
            (pause or partial(time.sleep, pause_s))()

    def await_runs(self, count: int, *, since: float) -> float:
        """Wait until so many runs that were made since then have ended. Returns when the last one did."""
        sql = (
            "SELECT count(*) FROM headrace_workflows_run WHERE org_id = %s AND created_at >= to_timestamp(%s)"
            " AND ended_at IS NOT NULL"
        )
        while self._one(sql, [self.organization.id, since]) < count:
            time.sleep(0.1)
        return self.last_end(since)

    def times_of(self, run_id: str) -> tuple[float, float]:
        """(created, ended) of a run that has ended or is about to, as seconds of the epoch."""
        while True:
            row = self._row(
                "SELECT extract(epoch FROM created_at)::float8, extract(epoch FROM ended_at)::float8 "
                "FROM headrace_workflows_run WHERE id = %s",
                [run_id],
            )
            if row[1] is not None:
                return float(row[0]), float(row[1])
            time.sleep(0.02)

    def last_end(self, since: float) -> float:
        """When the last of the runs ended that were made since then."""
        return float(
            self._one(
                "SELECT max(extract(epoch FROM ended_at))::float8 FROM headrace_workflows_run "
                "WHERE org_id = %s AND created_at >= to_timestamp(%s)",
                [self.organization.id, since],
            )
        )

    def first_start(self, run_id: str) -> float:
        """When the first step of a run was started, by its row."""
        return float(
            self._one(
                "SELECT min(extract(epoch FROM started_at))::float8 FROM headrace_workflows_steprun WHERE run_id = %s",
                [run_id],
            )
        )

    def api_key(self) -> str:
        _, text = AccessKey.issue(self.organization, AccessKey.Kind.API, "bench")
        return text

    def event_key(self) -> str:
        _, text = AccessKey.issue(self.organization, AccessKey.Kind.EVENT, "bench")
        return text

    def _now(self) -> Any:
        return self._one("SELECT clock_timestamp()", [])

    def _one(self, sql: str, parameters: list[Any]) -> Any:
        return self._row(sql, parameters)[0]

    def _row(self, sql: str, parameters: list[Any]) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchone()
