"""The gate beside the commit: the permit of a lone successor is asked for while its predecessor is being recorded.

The call is sent before the recording statement and its answer is read after it, so its horizon is one commit. It takes
or leaves, and never parks; what it leaves asks again after the commit, as every other step does. A start counts from
the grant on: a step that does not start (the run was cancelled, the worker was lost) has cost a start of its rates, and
its permit is given back, or expires.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar
from uuid import UUID

import structlog

from throttling.answers import Answer, Sent
from throttling.errors import EpochClosed, StoreUnavailable
from throttling.gate import Held
from workflows.engine.pipeline import admit
from workflows.engine.state import flow_cache, needs
from workflows.engine.state.records import MayContinue, ReadyStep, StepResult
from workflows.engine.state.step_ids import step_run_id
from workflows.steps.outcome import Completed

T = TypeVar("T")
log = structlog.get_logger(__name__)
COMMIT_WITHIN_S = 0.2
"""What was asked for so long before the commit of its row is asked for again: a new epoch of the gate is rebuilt from
the rows that it finds 250 ms after the loss of the old one."""
Leases = Mapping[str, Sequence[str]]
"""Permits by the lease under which they are held."""


def together(*groups: Leases) -> dict[str, list[str]]:
    """The permits of all groups; a lease may have some in several of them."""
    found: dict[str, list[str]] = {}
    for group in groups:
        for lease, ids in group.items():
            found.setdefault(lease, []).extend(ids)
    return found


class OnItsWay(Generic[T]):
    """A call of the gate whose caller writes to Postgres meanwhile."""

    def __init__(self) -> None:
        self.sent_at = time.monotonic()
        self._sent: Sent[T] | None = None

    def answer(self) -> T:
        """Wait for the gate's answer. Raises StoreUnavailable or EpochClosed."""
        sent, self._sent = self._sent, None
        if sent is None:
            raise StoreUnavailable
        return sent.answer()

    def abandon(self) -> None:
        """Wait for no answer; `answer` raises from now on."""
        sent, self._sent = self._sent, None
        if sent is not None:
            sent.abandon()

    @property
    def is_late(self) -> bool:
        """Whether it was sent so long ago that what it has got may not hold any more."""
        return time.monotonic() > self.sent_at + COMMIT_WITHIN_S


class Ahead(OnItsWay[Answer]):
    """A call for the permit of a step that is to be claimed, under this lease, by the recording of the one before."""

    def __init__(self, step: ReadyStep, after: Held, owed: Leases) -> None:
        """Send the call. Raises StoreUnavailable."""
        super().__init__()
        self.id = step.id
        self.lease = uuid.uuid4()
        self.after = after
        self.owed = owed
        (request,) = admit.requests([step])
        self._sent = admit.gate().send_ahead(request, str(self.lease), after=after, leases=owed)

    @property
    def permit(self) -> Leases:
        """The permit, to be given back."""
        return {str(self.lease): [self.id.hex]}


class Confirming(OnItsWay[tuple[Answer, list[str]]]):
    """A call that confirms steps while they are being claimed under a lease."""

    def __init__(self, ids: Sequence[str], lease: UUID) -> None:
        """Send the call; where the gate can't be reached `answer` says so."""
        super().__init__()
        self.ids = [UUID(id_).hex for id_ in ids]
        self.lease = str(lease)
        try:
            self._sent = admit.gate().send_confirm(self.lease, self.ids)
        except StoreUnavailable as error:
            log.info("the gate can't be asked", steps=len(ids), reason=str(error))


def ask(
    results: Sequence[StepResult], *, queues: frozenset[str], may_continue: MayContinue, owed: Leases
) -> Ahead | None:
    """Ask for the permit of the step that the recording of this result will claim; None where that is not certain.

    `owed`: permits that the call gives back before.
    """
    found = _follower(results, queues, may_continue)
    if found is None:
        return None
    claim = results[0].claim
    try:
        return Ahead(found, Held(claim.id.hex, str(claim.lease)), owed)
    except (StoreUnavailable, EpochClosed) as error:
        log.info("no permit can be asked for ahead", step_run_id=str(found.id), reason=str(error))
        return None


def _follower(results: Sequence[StepResult], queues: frozenset[str], may_continue: MayContinue) -> ReadyStep | None:
    """The only successor of a lone step that has completed, where it needs nothing else and depends on no condition."""
    if len(results) != 1 or not isinstance(results[0].outcome, Completed) or results[0].pause_s > 0:
        return None
    claim, outcome = results[0].claim, results[0].outcome
    flow = flow_cache.find(claim.version_id)
    step = flow.steps.get(claim.key) if flow is not None else None
    if flow is None or step is None or len(step.successors) != 1 or claim.lease is None or claim.path:
        return None
    target = flow.steps[step.successors[0]]
    if len(target.needs) != 1 or target.condition is not None or target.type.queue not in queues:
        return None
    if needs.weight(step, target.key, status="completed", not_taken=outcome.not_taken) < 1:
        return None
    if claim.id != step_run_id(claim.run_id, step.position) or not may_continue(flow.version_id, target.key):
        return None
    return _ready(claim.run_id, flow.version_id, target.key, claim.priority)


def _ready(run_id: UUID, version_id: UUID, key: str, priority: int) -> ReadyStep:
    target = flow_cache.flow_of(version_id).steps[key]
    return ReadyStep(
        id=step_run_id(run_id, target.position),
        run_id=run_id,
        version_id=version_id,
        key=key,
        queue=target.type.queue,
        type=target.type.name,
        attempt=1,
        needs_total=1,
        needs_met=1,
        needs_prepare=False,
        priority=priority,
    )
