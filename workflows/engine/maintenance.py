"""The leader's work: timers, rescue, and matching of left-over events. Two leaders at once are harmless.

Every sweep is idempotent, since a claim admits one. A long queue is never mistaken for a lost one: a message counts as
lost only when one published well after it has been claimed, or when the queue is empty and no worker holds a message.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg
import structlog
from amqp.exceptions import AMQPError
from celery import current_app
from django.db import connections
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from throttling.errors import ThrottlingError
from workflows.engine import (
    admission,
    dispatch,
    epoch,
    jobs,
    matching,
    meeting,
    recording,
    stopping,
    store,
    transitions,
)
from workflows.engine.failure import describe
from workflows.engine.outcome import Failed
from workflows.engine.rows import Claim, ReadyStep, Verdict
from workflows.errors import ResourceExhausted
from workflows.models.run import first_id
from workflows.steps.registry import QUEUES

log = structlog.get_logger(__name__)

LEADER_LEASE_S = 3.0
TICK_S = 0.075
RESCUE_EVERY_S = 1.0
SWEEP_EVERY_S = 10.0
OVERTAKEN_BY_S = 5.0
OVERTAKEN_WHILE_HELD_S = 60.0
DELIVERED_WITHIN_S = 5.0
BATCH = 1_000
LONGEST_RATE_S = 31 * 86_400.0
MAX_PAGES = 20


@dataclass(kw_only=True)
class Clock:
    """When each kind of work was last done, by the monotonic clock."""

    leading_until: float = 0.0
    rescued: float = 0.0
    swept: float = 0.0


class Maintenance:
    """A thread of an I/O worker that leads when nobody else does."""

    def __init__(self, worker: UUID) -> None:
        self.worker = worker
        self._stop = threading.Event()
        self._clock = Clock()
        self._keeper = epoch.Keeper()
        self._jobs = jobs.JobRunner(lambda: time.monotonic() < self._clock.leading_until)
        self._pause_s = TICK_S
        self._thread = threading.Thread(target=self._run, name="maintenance", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._jobs.start()

    def stop(self) -> None:
        self._stop.set()
        self._jobs.stop()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        store.adopt()
        while not self._stop.wait(self._pause_s):
            try:
                self.tick()
            except psycopg.Error as error:
                log.warning("maintenance failed, trying again", error=str(error))
                self._stop.wait(0.5)
            except Exception:
                log.exception("maintenance failed, trying again")
                self._stop.wait(0.5)
        try:
            store.fetch("resign", {"name": "maintenance", "holder": self.worker})
        except psycopg.Error as error:
            log.info("could not resign; the lease ends by itself", error=str(error))
        store.close()

    def tick(self) -> None:
        """One turn: lead if possible, pump timers, and rescue when it is time."""
        now = time.monotonic()
        if now > self._clock.leading_until - LEADER_LEASE_S / 2:
            if not store.fetch("lead", {"name": "maintenance", "holder": self.worker, "lease_s": LEADER_LEASE_S}):
                self._clock.leading_until = 0.0
                self._keeper.forget()
                self._stop.wait(LEADER_LEASE_S / 3)
                return
            self._clock.leading_until = now + LEADER_LEASE_S
        while woken := transitions.wake(batch=BATCH):
            dispatch.dispatch(woken)
        while meeting.expire():
            pass
        self._pause_s = max(0.001, min(TICK_S, self._keeper.wake()))
        if now - self._clock.rescued > RESCUE_EVERY_S:
            self._clock.rescued = now
            rescue(self.worker, self._keeper)
        if now - self._clock.swept > SWEEP_EVERY_S:
            self._clock.swept = now
            sweep(self._keeper)


def rescue(worker: UUID, keeper: epoch.Keeper) -> None:
    """Find what was lost and set it going again. One sweep that fails does not keep the others from their work."""
    states = {row.queue: row for row in store.fetch("queue_states", {"silent_s": epoch.WORKER_SILENT_S})}
    _each(
        lambda: keeper.size_queues(epoch.announced_places()),
        keeper.follow_policies,
        _undispatched,
        lambda: _dead_leases(worker),
        lambda: _lost_messages(states, keeper),
        lambda: store.fetch("rescue_unmarked", {"batch": BATCH}),
        lambda: stopping.expire(batch=BATCH),
        lambda: _settle_runs(deep=False),
        _left_over_events,
        meeting.rescue,
    )


def _each(*sweeps: Callable[[], object]) -> None:
    for work in sweeps:
        try:
            work()
        except psycopg.OperationalError:
            raise
        except ThrottlingError as error:
            log.info("the gate is closed for now", reason=str(error))
        except Exception:
            log.exception("a sweep failed; the others go on")


def _left_over_events() -> None:
    try:
        matching.match_left_over()
    finally:
        connections.close_all()


def sweep(keeper: epoch.Keeper) -> None:
    """The rarer checks: live runs without open steps, steps of ended runs, workers that are gone, permits of nobody."""
    _each(
        lambda: _settle_runs(deep=True),
        lambda: store.fetch("close_orphan_steps", {"batch": BATCH}),
        lambda: store.fetch("orphan_waits", {"batch": BATCH}),
        lambda: store.fetch("forget_run_marks", {"first": first_id(time.time() - LONGEST_RATE_S), "batch": BATCH}),
        lambda: store.fetch("forget_workers", {"id": None, "silent_s": 600.0}),
        epoch.audit,
        keeper.sweep,
    )


def _undispatched() -> None:
    for _ in range(MAX_PAGES):
        rows = store.fetch("rescue_undispatched", {"batch": BATCH, "queues": list(QUEUES)})
        dispatch.dispatch([ReadyStep.of(row) for row in rows])
        if len(rows) < BATCH:
            return


def _dead_leases(worker: UUID) -> int:
    lease = uuid4()
    rows = store.fetch(
        "rescue_dead_leases",
        {
            "batch": BATCH,
            "max_losses": transitions.MAX_LOSSES,
            "lease": lease,
            "worker": worker,
            "lease_s": transitions.LEASE_S,
            "grace_s": transitions.LEASE_S / 2,
            "silent_s": transitions.LEASE_S / 2,
        },
    )
    if rows:
        log.warning("workers were lost, their steps run again", steps=len(rows))
    given_up = [Claim.of(row, lease) for row in rows if row.status == "running"]
    if given_up:
        error = describe(
            ResourceExhausted(f"The step's worker was lost {transitions.MAX_LOSSES} times while it ran alone.")
        )
        recorded = recording.record([Verdict(claim=claim, outcome=Failed(error=error)) for claim in given_up])
        dispatch.dispatch(recorded.ready)
    dispatch.dispatch([ReadyStep.of(row) for row in rows if row.status == "ready"])
    return len(rows)


def queue_lengths() -> dict[str, int]:
    """Messages waiting in the broker, by queue. Raises where the broker does not answer."""
    with current_app.connection_for_read(connect_timeout=2) as connection:
        connection.ensure_connection(max_retries=1, timeout=2)
        channel = connection.default_channel
        lengths = {}
        for name in QUEUES:
            try:
                lengths[name] = channel.queue_declare(queue=name, passive=True).message_count
            except channel.connection.channel_errors:
                lengths[name] = 0
                channel = connection.channel()
        return lengths


def _lost_messages(states: dict[str, Any], keeper: epoch.Keeper) -> int:
    """Publish again what the broker has lost.

    Messages of a queue are delivered in order. So what was dispatched before the newest claimed dispatch, less a
    margin, is lost; and where the queue is empty and a worker of it is idle, all that is older than a moment is.
    """
    try:
        lengths = queue_lengths()
    except (KombuError, RedisError, AMQPError, OSError) as error:
        log.info("the broker does not answer", error=str(error))
        return 0
    touched = 0
    for name in QUEUES:
        state = states.get(name)
        if state is None:
            continue  # nobody works on this queue: its messages wait
        margin_s = OVERTAKEN_BY_S if state.unclaimed == 0 else OVERTAKEN_WHILE_HELD_S
        idle = lengths[name] == 0 and state.unclaimed == 0 and state.active < state.slots
        idle = keeper.idle_for(name, idle) > DELIVERED_WITHIN_S
        rows = store.fetch(
            "rescue_lost_messages",
            {
                "queue": name,
                "before": (state.claimed_until or 0.0) - margin_s,
                "idle_s": DELIVERED_WITHIN_S if idle else None,
                "batch": BATCH,
            },
        )
        lost = _not_at_the_gate([row.id for row in rows]) if rows else []
        if lost:
            log.warning("messages were lost, publishing again", queue=name, steps=len(lost))
            again = store.fetch("publish_again", {"ids": lost})
            dispatch.dispatch([ReadyStep.of(row) for row in again])
            touched += len(again)
    return touched


def _not_at_the_gate(ids: list[UUID]) -> list[UUID]:
    """Those that neither wait for a limit (which is noted of them) nor were granted just now."""
    if not admission.ENABLED:
        return ids
    places = admission.gate().places([id_.hex for id_ in ids])
    waiting = [id_ for id_ in ids if places.get(id_.hex, ("", 0.0))[0] == "waiting"]
    if waiting:
        store.fetch("mark_parked", {"ids": waiting})
    return [id_ for id_ in ids if places.get(id_.hex, ("", math.inf))[1] > DELIVERED_WITHIN_S]


def _settle_runs(*, deep: bool) -> None:
    rows = store.fetch("find_unsettled", {"batch": BATCH, "deep": deep})
    if not rows:
        return
    stopping.settle([row.id for row in rows])
    recording.finish([row.id for row in rows if row.finished])
