"""How many buffers each of the engine's statements touches: EXPLAIN (ANALYZE, BUFFERS) of its generic plan, with the
parameters that it really gets, while an engine in this process executes runs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg

from bench.drivers.site import Site
from workflows import services, this_process
from workflows.engine.maintenance.leader import Maintenance
from workflows.engine.pipeline import publish as dispatch
from workflows.engine.pipeline.dispatcher import Dispatcher
from workflows.engine.state import database
from workflows.engine.worker.profile import WorkerProfile
from workflows.engine.worker.runtime import Runtime
from workflows.steps.registry import REGISTRY

LEADS_FOR_S = 12.0


def measure(site: Site, *, runs: int, repeats: int) -> dict[str, float]:
    """By statement: buffers (hit, read, dirtied where no hit counts them) of a call, the median of all calls.

    A batch of runs of five steps is executed so many times, then a leader works for a while. The site's worker
    is stopped before.
    """
    if "worker-io" in site.processes.running:
        site.processes.stop("worker-io")
    found: dict[str, list[int]] = {}
    runtime = Runtime(
        WorkerProfile(
            name="bench-growth", queues=frozenset({"headrace.io"}), slots=200, threads=2, runs_in_task_thread=False,
            lanes={"headrace.io": 400},
        )
    )  # fmt: skip
    sent: list[Any] = []
    publish = dispatch.publish
    setattr(dispatch, "publish", sent.extend)
    runtime.start()
    try:
        with _explained(found), this_process.replaced(Dispatcher, Dispatcher(at_once=True)):
            for _ in range(repeats):
                services.trigger_many(site.organization, "five-noops", [{}] * runs)
                for _, _, batch in dispatch.messages(_drained(sent)):
                    runtime.visit(REGISTRY["noop"], batch)
            leader = Maintenance(runtime.profile.id)
            leader.start()
            time.sleep(LEADS_FOR_S)
            leader.stop()
    finally:
        setattr(dispatch, "publish", publish)
        runtime.drain(1)
        database.close()
    return {name: float(statistics.median(counts)) for name, counts in sorted(found.items())}


def _drained(sent: list[Any]) -> list[Any]:
    steps, sent[:] = list(sent), []
    return steps


@contextmanager
def _explained(found: dict[str, list[int]]) -> Iterator[None]:
    """Have each statement of the engine explained, and rolled back, before it is executed."""
    execute = database._execute

    def explain_first(
        connection: database.Connection, name: str, parameters: Mapping[str, Any], make: Callable[[Iterable[Any]], Any]
    ) -> list[Any]:
        found.setdefault(name, []).append(_buffers(connection, name, parameters))
        return execute(connection, name, parameters, make)

    setattr(database, "_execute", explain_first)
    try:
        yield
    finally:
        setattr(database, "_execute", execute)


def _buffers(connection: psycopg.Connection[Any], name: str, parameters: Mapping[str, Any]) -> int:
    """Shared buffers that one call touches. The generic plan is planned before: catalog look-ups do not count."""
    text, names = database.numbered(name)
    given = psycopg.ClientCursor(connection)
    values = ", ".join(given.mogrify("%s", [parameters[each]]) for each in names)
    call = f"bench_{name}({values})" if names else f"bench_{name}"
    with connection.cursor() as cursor:
        cursor.row_factory = psycopg.rows.tuple_row
        cursor.execute("SELECT 1 FROM pg_prepared_statements WHERE name = %s", [f"bench_{name}"])
        if not cursor.fetchone():
            cursor.execute(f"PREPARE bench_{name} AS {text.decode()}", prepare=False)
            cursor.execute("SET plan_cache_mode = force_generic_plan")
        with connection.transaction(force_rollback=True):
            cursor.execute(
                f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE {call}".encode(), prepare=False
            )
            row = cursor.fetchone()
    plan: dict[str, Any] = row[0][0]["Plan"] if row else {}
    return int(plan.get("Shared Hit Blocks", 0)) + int(plan.get("Shared Read Blocks", 0))
