"""The leader's work: timers and rescue. Two leaders at once are harmless.

The tables at the end name every sweep. One that raises keeps no other from its turn (`sweeps`), and one that takes long
is reported (`budgets`). Every sweep is idempotent, since a claim admits one. A long queue is never mistaken for a lost
one: a message counts as lost only when one published well after it has been claimed, or when the queue is empty and no
worker holds a message.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg
import structlog
from amqp.exceptions import AMQPError
from celery import current_app
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from workflows.definitions.compiled import NIL_UUID
from workflows.engine.maintenance import budgets, gate_sync, periodic_jobs, sweeps
from workflows.engine.pipeline import admit, publish, record
from workflows.engine.pipeline.retry_decision import describe
from workflows.engine.run_controls import stopping
from workflows.engine.sql import gate_sync as gate_sql
from workflows.engine.sql import leader as sql
from workflows.engine.sql import publish as publish_sql
from workflows.engine.sql import rescue as rescue_sql
from workflows.engine.sql import sweeps as sweeps_sql
from workflows.engine.sql.gate_sync import QueueStatesRow
from workflows.engine.sql.rescue import FindUnsettledRow
from workflows.engine.state import database, flow_cache, unloadable
from workflows.engine.state.records import Claim, ReadyStep, StepResult
from workflows.engine.state.transitions import rescue as rescue_transitions
from workflows.engine.state.transitions import steps as step_transitions
from workflows.engine.waits import resolve
from workflows.engine.worker import vital
from workflows.errors import ResourceExhausted
from workflows.models.run import first_id
from workflows.models.worker import FORGOTTEN_AFTER_S, SILENT_AFTER_S
from workflows.steps.outcome import Failed
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
MAX_PAGES = 20
KEY_PAGES = 10
SWEEP_BUDGET_S = 5.0
TURN_S = 1.0
"""Seconds that the timers of one kind may take in a turn; the leader's lease is three."""
UNDISPATCHED = "undispatched steps"
UNSETTLED = "unsettled runs"


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
        self._sync = gate_sync.GateSync()
        self._jobs = periodic_jobs.JobRunner(lambda: time.monotonic() < self._clock.leading_until)
        self._pause_s = TICK_S
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = vital.start("maintenance", self._run)
        self._jobs.start()

    def stop(self) -> None:
        self._stop.set()
        self._jobs.stop()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        database.adopt()
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
            sql.resign(name="maintenance", holder=self.worker)
        except psycopg.Error as error:
            log.info("could not resign; the lease ends by itself", error=str(error))
        database.close()

    def tick(self) -> None:
        """One turn: lead if possible, pump timers, and rescue when it is time."""
        now = time.monotonic()
        if now > self._clock.leading_until - LEADER_LEASE_S / 2:
            if not sql.lead(name="maintenance", holder=self.worker, lease_s=LEADER_LEASE_S):
                self._clock.leading_until = 0.0
                self._sync.forget()
                self._stop.wait(LEADER_LEASE_S / 3)
                return
            self._clock.leading_until = now + LEADER_LEASE_S
        turn = Turn(worker=self.worker, sync=self._sync)
        run_sweeps(TIMERS, turn)
        self._pause_s = max(0.001, min(TICK_S, turn.gate_due_s))
        if now - self._clock.rescued > RESCUE_EVERY_S:
            self._clock.rescued = now
            run_sweeps(RESCUES, turn)
        if now - self._clock.swept > SWEEP_EVERY_S:
            self._clock.swept = now
            run_sweeps(RARE, turn)


@dataclass(kw_only=True)
class Turn:
    """One turn of the leader: for whom, and what its sweeps have in common."""

    worker: UUID
    sync: gate_sync.GateSync
    gate_due_s: float = TICK_S
    """Seconds until the gate has something to hand over."""

    @functools.cached_property
    def states(self) -> dict[str, QueueStatesRow]:
        """What live workers say of the queues."""
        return {row.queue: row for row in gate_sql.queue_states(silent_s=SILENT_AFTER_S)}


Sweep = Callable[[Turn], object]


def run_sweeps(table: Mapping[str, Sweep], turn: Turn) -> None:
    """Do every sweep of a table. One that raises, or takes long, is noted, and the others have their turn."""
    for name, work in table.items():
        with budgets.watched(name, BUDGETS_S.get(name, SWEEP_BUDGET_S)):
            sweeps.guarded(name, functools.partial(work, turn))


def rescue(worker: UUID, sync: gate_sync.GateSync) -> None:
    """Find what was lost and set it going again."""
    run_sweeps(RESCUES, Turn(worker=worker, sync=sync))


def sweep(sync: gate_sync.GateSync) -> None:
    """The rarer checks: live runs without open steps, steps of ended runs, workers that are gone, permits of nobody."""
    run_sweeps(RARE, Turn(worker=NIL_UUID, sync=sync))


# --- timers ---------------------------------------------------------------------------------------------------------


def _wake(_: Turn) -> None:
    until = time.monotonic() + TURN_S
    while (woken := step_transitions.wake(batch=BATCH)) and time.monotonic() < until:
        publish.dispatch(woken)
    publish.dispatch(woken)


def _expire_waits(_: Turn) -> None:
    until = time.monotonic() + TURN_S
    while resolve.expire() and time.monotonic() < until:
        pass


def _wake_gate(turn: Turn) -> None:
    turn.gate_due_s = turn.sync.wake()


# --- what was lost --------------------------------------------------------------------------------------------------


def _undispatched() -> None:
    """Ready steps that nobody published: a page that is fair, since the steps of one organization may all be bad."""
    rows = rescue_sql.rescue_undispatched(
        batch=MAX_PAGES * BATCH, queues=QUEUES, put_off=sweeps.ledger().put_off(UNDISPATCHED)
    )
    owners = {row.id: row.org_id for row in rows}
    sweeps.isolated(
        sweeps.Items(
            name=UNDISPATCHED,
            work=lambda steps: sweeps.Refused(publish.dispatch_together(steps)),
            key=lambda step: str(step.id),
            org=lambda step: owners[step.id],
            group=BATCH,
            give_up=_fail,
            stays=flow_cache.is_newer,
        ),
        [ReadyStep.of(row) for row in rows],
    )


def _fail(step: ReadyStep, error: BaseException) -> None:
    """A step that could not be dispatched for ten minutes: it fails, and its dead letter says why."""
    recorded = unloadable.fail([step], error)
    publish.withdraw([step.id, *recorded.unstarted], [run_id for run_id, _ in recorded.ended])
    publish.dispatch(recorded.ready)


def _dead_leases(worker: UUID) -> int:
    lost = rescue_transitions.take_from_lost_workers(worker=worker, batch=BATCH)
    steps = len(lost.ready) + len(lost.given_up)
    if steps:
        log.warning("workers were lost, their steps run again", steps=steps)
    if lost.given_up:
        recorded = record.record(
            [
                StepResult(claim=claim, outcome=Failed(error=describe(_too_many_losses(claim))))
                for claim in lost.given_up
            ]
        )
        publish.dispatch(recorded.ready)
    publish.dispatch(lost.ready)
    return steps


def _too_many_losses(claim: Claim) -> ResourceExhausted:
    if claim.losses >= rescue_transitions.MAX_ALL_LOSSES:
        return ResourceExhausted(
            f"The step {claim.key!r} lost its worker {claim.losses} times. Either the step ends it (look at the memory "
            "that the step needs), or others do; then run it again."
        )
    return ResourceExhausted(f"The step's worker was lost {rescue_transitions.MAX_LOSSES} times while it ran alone.")


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


def _lost_messages(states: dict[str, QueueStatesRow], sync: gate_sync.GateSync) -> int:
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

    def look(names: Sequence[str]) -> None:
        nonlocal touched
        touched += sum(_lost_of_queue(name, states[name], lengths[name], sync) for name in names)

    # The messages of a queue that nobody works on wait.
    sweeps.isolated(
        sweeps.Items(name="lost messages of a queue", work=look), [name for name in QUEUES if name in states]
    )
    return touched


def _lost_of_queue(name: str, state: QueueStatesRow, length: int, sync: gate_sync.GateSync) -> int:
    margin_s = OVERTAKEN_BY_S if state.unclaimed == 0 else OVERTAKEN_WHILE_HELD_S
    idle = length == 0 and state.unclaimed == 0 and state.active < state.slots
    idle = sync.idle_for(name, idle) > DELIVERED_WITHIN_S
    rows = rescue_sql.rescue_lost_messages(
        queue=name,
        before=(state.claimed_until or 0.0) - margin_s,
        idle_s=DELIVERED_WITHIN_S if idle else None,
        batch=BATCH,
    )
    lost = _not_at_the_gate([row.id for row in rows]) if rows else []
    if not lost:
        return 0
    log.warning("messages were lost, publishing again", queue=name, steps=len(lost))
    again = rescue_sql.publish_again(ids=lost)
    publish.dispatch([ReadyStep.of(row) for row in again])
    return len(again)


def _not_at_the_gate(ids: list[UUID]) -> list[UUID]:
    """Those that neither wait for a limit (which is noted of them) nor were granted just now."""
    if not admit.is_on():
        return ids
    places = admit.gate().places([id_.hex for id_ in ids])
    waiting = [id_ for id_ in ids if places.get(id_.hex, ("", 0.0))[0] == "waiting"]
    if waiting:
        publish_sql.mark_parked(ids=waiting)
    return [id_ for id_ in ids if places.get(id_.hex, ("", math.inf))[1] > DELIVERED_WITHIN_S]


def _end_stopped_runs(*, deep: bool) -> None:
    rows = rescue_sql.find_unsettled(batch=BATCH, deep=deep, put_off=sweeps.ledger().put_off(UNSETTLED))

    def stop(some: Sequence[FindUnsettledRow]) -> None:
        stopping.stop_together([row.id for row in some])
        for row in some:
            if row.finished:
                record.finish([row.id])

    sweeps.isolated(
        sweeps.Items(
            name=UNSETTLED,
            work=stop,
            key=lambda row: str(row.id),
            org=lambda row: row.org_id,
            group=stopping.GROUP,
        ),
        rows,
    )


# --- what only grows ------------------------------------------------------------------------------------------------


def _forget_keys(_: Turn) -> None:
    """Idempotency keys that have expired, a bounded number at a time: a trigger never waits for this."""
    for _page in range(KEY_PAGES):
        if len(sql.forget_expired_keys(batch=BATCH)) < BATCH:
            return


# --- the sweeps, all of them ----------------------------------------------------------------------------------------

TIMERS: dict[str, Sweep] = {
    "timers": _wake,
    "timeouts of waits": _expire_waits,
    "the gate's timers": _wake_gate,
}
"""At every tick."""
BUDGETS_S = {"the gate's timers": 60.0}
"""Where it is another: a store that was lost is rebuilt there."""
RESCUES: dict[str, Sweep] = {
    "queue sizes": lambda turn: turn.sync.size_queues(gate_sync.announced_permits()),
    "policies": lambda turn: turn.sync.follow_policies(),
    UNDISPATCHED: lambda _: _undispatched(),
    "lost workers": lambda turn: _dead_leases(turn.worker),
    "lost messages": lambda turn: _lost_messages(turn.states, turn.sync),
    "lost joins": lambda _: rescue_transitions.ready_unmarked(batch=BATCH),
    "timeouts of runs": lambda _: stopping.expire(batch=BATCH),
    UNSETTLED: lambda _: _end_stopped_runs(deep=False),
    resolve.NOT_LOOKED_BACK: lambda _: resolve.look_back_late(),
    resolve.TAKEN_WAITS: lambda _: resolve.resolve_late(),
    resolve.OVER_CONTAINERS: lambda _: resolve.conclude_late(),
    resolve.ENDED_CHILDREN: lambda _: resolve.resolve_for_ended(),
}
"""Every second."""
RARE: dict[str, Sweep] = {
    "stuck runs": lambda _: _end_stopped_runs(deep=True),
    "orphan steps": lambda _: rescue_transitions.close_orphans(batch=BATCH),
    "orphan waits": lambda _: rescue_sql.orphan_waits(batch=BATCH),
    "run marks": lambda _: sql.forget_run_marks(first=first_id(time.time() - gate_sync.LONGEST_RATE_S), batch=BATCH),
    "idempotency keys": _forget_keys,
    "workers that are gone": lambda _: sql.forget_workers(id=None, silent_s=FORGOTTEN_AFTER_S),
    "notes of sweeps": lambda _: sweeps_sql.forget_stale_sweep_failures(stale_s=sweeps.STALE_AFTER_S),
    "the gate's audit": lambda _: gate_sync.audit(),
    "the gate's old epochs": lambda turn: turn.sync.sweep(),
}
"""Every ten seconds."""
