"""The leader's work: timers and rescue. Two leaders at once are harmless.

The tables at the end name every sweep. One that raises keeps no other from its turn (`sweeps`), and one that takes long
is reported (`budgets`). Every sweep is idempotent, since a claim admits one. While nothing happens, a look costs two
statements: when is the next timer, and is there anything to do.
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

from workflows import this_process
from workflows.definitions.compiled import NIL_UUID
from workflows.engine.maintenance import budgets, due_work, gate_sync, lost_messages, periodic_jobs, sweeps
from workflows.engine.pipeline import hints, publish, record
from workflows.engine.pipeline.retry_decision import describe
from workflows.engine.run_controls import stopping
from workflows.engine.sql import gate_sync as gate_sql
from workflows.engine.sql import leader as sql
from workflows.engine.sql import rescue as rescue_sql
from workflows.engine.sql import sweeps as sweeps_sql
from workflows.engine.sql.gate_sync import QueueStatesRow
from workflows.engine.sql.rescue import FindUnsettledRow
from workflows.engine.state import database, flow_cache, unloadable
from workflows.engine.state.records import Claim, ReadyStep, StepResult
from workflows.engine.state.transitions import calls as call_transitions
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
"""From one look to the next, while there is something to do."""
SHORTEST_S = 0.005
"""The next timer may be as near."""
BUSY_S = 1.0
"""After a hint it looks so often for so long. (Those who send hints leave some out within a quarter of a second.)"""
RESCUE_EVERY_S = 1.0
SWEEP_EVERY_S = 10.0
BATCH = 1_000
MAX_PAGES = 20
KEY_PAGES = 10
SWEEP_BUDGET_S = 5.0
TURN_S = 1.0
"""Seconds that the timers of one kind may take in a turn; the leader's lease is three."""
UNDISPATCHED = "undispatched steps"
UNSETTLED = "unsettled runs"
QUEUE_SIZES = "queue sizes"


@dataclass(kw_only=True)
class Clock:
    """When each kind of work was last done, by the monotonic clock."""

    leading_until: float = 0.0
    rescued: float = 0.0
    swept: float = 0.0
    busy_until: float = 0.0
    """Until then it looks often."""


class Maintenance:
    """A thread of an I/O worker that leads when nobody else does.

    It looks every second, and when the next timer that it knows of is due; after a hint every 75 ms, for a second.
    """

    def __init__(self, worker: UUID) -> None:
        self.worker = worker
        self._stop = threading.Event()
        self._woken = threading.Event()
        self._clock = Clock()
        self._sync = gate_sync.GateSync()
        self._jobs = periodic_jobs.JobRunner(
            lambda: time.monotonic() < self._clock.leading_until, named_by_looks=due_work.JOBS
        )
        self._listener = hints.Listener(self._hear)
        self._pause_s = TICK_S
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = vital.start("maintenance", self._run)
        self._listener.start()
        self._jobs.start()

    def stop(self) -> None:
        self._stop.set()
        self._woken.set()
        self._listener.stop()
        self._jobs.stop()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _hear(self) -> None:
        """A hint has come: look now, and often for a while."""
        now = time.monotonic()
        looks_often, self._clock.busy_until = now < self._clock.busy_until, now + BUSY_S
        if not looks_often:
            self._woken.set()

    def _run(self) -> None:
        database.adopt()
        while not self._stop.is_set():
            self._woken.wait(self._pause_s)
            self._woken.clear()
            if self._stop.is_set():
                break
            try:
                self.tick()
            except psycopg.Error as error:
                log.warning("maintenance failed, trying again", error=str(error))
                self._stop.wait(0.5)
            except Exception:
                log.exception("maintenance failed, trying again")
                self._stop.wait(0.5)
        this_process.own(hints.Hints).lead(None)
        try:
            sql.resign(name="maintenance", holder=self.worker)
        except psycopg.Error as error:
            log.info("could not resign; the lease ends by itself", error=str(error))
        database.close()

    def tick(self) -> None:
        """One turn: lead if possible, pump timers, and rescue when it is time."""
        now = time.monotonic()
        if now > self._clock.leading_until - LEADER_LEASE_S / 2 and not self._lead(now):
            self._pause_s = LEADER_LEASE_S / 3
            return
        turn = Turn(worker=self.worker, sync=self._sync)
        timer_s = pump_timers(turn)
        if now - self._clock.rescued >= RESCUE_EVERY_S:
            self._clock.rescued = now
            self._jobs.tell(rescue(turn))
        if now - self._clock.swept > SWEEP_EVERY_S:
            self._clock.swept = now
            run_sweeps(RARE, turn)
        then = time.monotonic()
        longest_s = TICK_S if then < self._clock.busy_until else self._clock.rescued + RESCUE_EVERY_S - then
        self._pause_s = max(0.001, min(longest_s, timer_s, turn.gate_due_s))

    def _lead(self, now: float) -> bool:
        """Take the lead, or keep it. False where another has it."""
        leads = bool(sql.lead(name="maintenance", holder=self.worker, lease_s=LEADER_LEASE_S))
        self._clock.leading_until = now + LEADER_LEASE_S if leads else 0.0
        this_process.own(hints.Hints).lead(self._hear if leads else None)
        if not leads:
            self._sync.forget()
        return leads


@dataclass(kw_only=True)
class Turn:
    """One turn of the leader: for whom, and what its sweeps have in common."""

    worker: UUID
    sync: gate_sync.GateSync
    gate_due_s: float = math.inf
    """Seconds until the gate has something to hand over."""
    revision: int | None = None
    """Of the policies, where that was looked up."""
    workers: str = ""
    """Those whose announcement is brought to the store."""

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


def pump_timers(turn: Turn) -> float:
    """Start what is due. Returns the seconds until the next timer of steps or waits is."""
    (timer,) = sql.next_timer(within_s=hints.HINT_WITHIN_S)
    due = {"timers": timer.step_s, "timeouts of waits": timer.wait_s, "the gate's timers": 0.0}
    run_sweeps({name: TIMERS[name] for name, in_s in due.items() if in_s is not None and in_s <= 0}, turn)
    ahead = (timer.step_s, timer.wait_s)
    return min((max(SHORTEST_S, in_s) if in_s > 0 else TICK_S for in_s in ahead if in_s is not None), default=math.inf)


def rescue(turn: Turn) -> frozenset[str]:
    """Find what was lost and set it going again. Returns the names of the jobs that have something to do."""
    found = due_work.look()
    turn.revision, turn.workers = found.revision, found.workers
    if not found.outstanding:
        turn.sync.note_nothing_dispatched(QUEUES)
    due = found.names | ALWAYS | ({QUEUE_SIZES} if found.workers != turn.sync.workers else set())
    run_sweeps({name: work for name, work in RESCUES.items() if name in due}, turn)
    return found.names


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
"""At every look: the gate's, and the others where one is due."""
BUDGETS_S = {"the gate's timers": 60.0}
"""Where it is another: a store that was lost is rebuilt there."""
RESCUES: dict[str, Sweep] = {
    QUEUE_SIZES: lambda turn: turn.sync.size_queues(gate_sync.announced_permits(), workers=turn.workers),
    "policies": lambda turn: turn.sync.follow_policies(turn.revision),
    UNDISPATCHED: lambda _: _undispatched(),
    "lost workers": lambda turn: _dead_leases(turn.worker),
    "lost messages": lambda turn: lost_messages.publish_lost(turn.states, turn.sync),
    "lost joins": lambda _: rescue_transitions.ready_unmarked(batch=BATCH),
    "timeouts of runs": lambda _: stopping.expire(batch=BATCH),
    UNSETTLED: lambda _: _end_stopped_runs(deep=False),
    resolve.NOT_LOOKED_BACK: lambda _: resolve.look_back_late(),
    resolve.TAKEN_WAITS: lambda _: resolve.resolve_late(),
    resolve.OVER_CONTAINERS: lambda _: resolve.conclude_late(),
    resolve.ENDED_CHILDREN: lambda _: resolve.resolve_for_ended(),
}
"""Every second, those that would find something (`due_work`), and these:"""
ALWAYS = frozenset({"policies"})
RARE: dict[str, Sweep] = {
    "stuck runs": lambda _: _end_stopped_runs(deep=True),
    "orphan steps": lambda _: rescue_transitions.close_orphans(batch=BATCH),
    "left-over functions": lambda _: publish.dispatch(call_transitions.wake_left_over(batch=BATCH)),
    "orphan waits": lambda _: rescue_sql.orphan_waits(batch=BATCH),
    "run marks": lambda _: sql.forget_run_marks(first=first_id(time.time() - gate_sync.LONGEST_RATE_S), batch=BATCH),
    "idempotency keys": _forget_keys,
    "workers that are gone": lambda _: sql.forget_workers(id=None, silent_s=FORGOTTEN_AFTER_S),
    "notes of sweeps": lambda _: sweeps_sql.forget_stale_sweep_failures(stale_s=sweeps.STALE_AFTER_S),
    "the gate's audit": lambda _: gate_sync.audit(),
    "the gate's old epochs": lambda turn: turn.sync.sweep(),
}
"""Every ten seconds."""
