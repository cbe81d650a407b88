"""What a worker process does at the gate: confirm what it claimed, hand over what it recorded, renew what it holds."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import structlog

from throttling.answers import Answer
from throttling.gate import Capacity, Pause
from workflows.engine.pipeline import admit, prepare, publish
from workflows.engine.pipeline.ahead import Ahead, Confirming, Leases, together
from workflows.engine.pipeline.perform import Visit
from workflows.engine.pipeline.record import record
from workflows.engine.run_controls import sleepers
from workflows.engine.state import database
from workflows.engine.state.records import Claim, ReadyStep, Recorded, StepResult
from workflows.engine.worker.claims import Claimer
from workflows.engine.worker.in_flight import InFlight
from workflows.engine.worker.profile import WorkerProfile
from workflows.steps.outcome import HandBack

log = structlog.get_logger(__name__)


NOTHING: Leases = {}
MIN_RENEWALS = 5
"""So often at least a stamp is renewed whose answer comes too late to start by."""
RENEW_FOR_S = 1.0
"""And for so long at least; then the step is handed back."""
LATE_WAIT_S = 2.0
"""A step that could not start by any of its stamps rests for so long, or twice as long: the gate, or this machine, is
too slow now."""
STARTS_WAIT_S = 1.0
"""A thread waits for its turn to renew a stamp for so long at most; then it asks beside the others."""
GIVE_BACK_AFTER_S = 0.001
"""A short handler ends in that time: the call that follows it gives the permit of the step before it back."""


class Continuation(NamedTuple):
    """The steps with which a visit goes on, which are claimed and have their permits."""

    claims: list[Claim]
    requested_at: float
    """When their permits were asked for, by the monotonic clock."""
    owed: Leases = NOTHING
    """Permits of what was recorded before, which are still to be given back."""


class Permits:
    """The permits of the steps that a worker process has in flight."""

    def __init__(self, profile: WorkerProfile, in_flight: InFlight, claimer: Claimer) -> None:
        self._profile = profile
        self._in_flight = in_flight
        self._claimer = claimer
        self._lock = threading.Lock()
        self._owed: list[Leases] = []
        self._unpublished: list[Answer] = []
        self._is_owed = threading.Event()
        self._is_over = False
        self._starts = threading.Lock()

    def confirm(self, claims: list[Claim], lease: UUID, confirming: Confirming) -> list[Claim]:
        """Those of the claimed steps that may start now (and others, whose turn it was); the rest goes back. What was
        confirmed meanwhile and is not claimed is given back."""
        by_id = {claim.id.hex: claim for claim in claims}
        gate = admit.gate()
        taken: list[str] = []
        try:
            answer, unknown = confirming.answer()
            publish.publish_granted(answer)
            unclaimed = set(confirming.ids) - by_id.keys() - set(unknown)
            if unclaimed:
                publish.publish_granted(gate.release({str(lease): sorted(unclaimed)}))
            unknown = [id_ for id_ in unknown if id_ in by_id]
            if confirming.is_late and by_id:
                answer, unknown = gate.confirm(str(lease), list(by_id))
                publish.publish_granted(answer)
            if unknown:  # their reservations are gone: they ask again, with their old places
                requests = admit.requests([by_id[id_] for id_ in unknown])
                again = gate.admit(
                    requests, take=Capacity(count=len(unknown), lanes=tuple(self._profile.lanes), lease=str(lease))
                )
                taken = again.taken
                publish.publish_granted(again)
        except publish.GATE_ERRORS as error:
            log.info("nothing may start now, steps are handed back", steps=len(claims), reason=str(error))
            unknown = list(by_id)
        refused = [by_id[id_] for id_ in unknown if id_ not in taken]
        self._give_back(refused)
        others = [id_ for id_ in taken if id_ not in by_id]
        gone = {claim.id for claim in refused}
        return [claim for claim in claims if claim.id not in gone] + self._claim_taken(others, lease)

    def _claim_taken(self, ids: Sequence[str], lease: UUID) -> list[Claim]:
        """Claim steps that the gate has handed to this worker."""
        if not ids:
            return []
        claims = self._claimer.claim([(id_, None) for id_ in ids], lease, from_broker=False)
        missing = set(ids) - {claim.id.hex for claim in claims}
        if missing:
            try:
                publish.publish_granted(admit.gate().release({str(lease): sorted(missing)}))
            except publish.GATE_ERRORS as error:
                log.info("permits could not be given back; they expire", permits=len(missing), reason=str(error))
        return claims

    def taken_ahead(self, asked: Ahead, recorded: Recorded) -> Continuation | None:
        """The claimed step whose permit was asked for while its predecessor was being recorded; None where it has
        none, or was not claimed."""
        try:
            answer = asked.answer()
        except publish.GATE_ERRORS as error:
            log.info("the gate has not answered in time", step_run_id=str(asked.id), reason=str(error))
            return None
        is_revised = admit.sync_revision(answer)  # the policies have changed: the stamp may be too old by the new ones
        if answer.granted:  # others, by what the call has given back
            publish.publish_granted(answer)
        is_taken = asked.id.hex in answer.taken and [claim.id for claim in recorded.claimed] == [asked.id]
        if not is_taken or asked.is_late or recorded.ready or recorded.unstarted or recorded.ended:
            return None
        owed = {asked.after.lease: [asked.after.id]}
        return Continuation(recorded.claimed, -math.inf if is_revised else asked.sent_at, owed)

    def give_back_soon(self, leases: Leases) -> None:
        """Have permits given back, and handed over to those who wait: by the next call that a thread makes, or by a
        thread of its own in a moment."""
        if leases:
            with self._lock:
                self._owed.append(leases)
            self._is_owed.set()

    def take_owed(self) -> Leases:
        """The permits that are still to be given back: the caller gives them back now."""
        with self._lock:
            owed, self._owed = self._owed, []
        return together(*owed)

    def _publish_soon(self, answer: Answer) -> None:
        """Have the thread of its own publish what else a call has granted. The caller goes on at once."""
        if not (answer.granted or answer.parked or answer.more):
            return
        with self._lock:
            self._unpublished.append(answer)
        self._is_owed.set()

    def _publish_granted(self) -> None:
        with self._lock:
            answers, self._unpublished = self._unpublished, []
        for answer in answers:
            try:
                publish.publish_granted(answer)
            except Exception:
                log.exception("what was granted could not be published; rescue will", permits=len(answer.granted))

    def work(self) -> None:
        """Give back what no other call has given back, and publish what was granted, until `end`. On a thread of its
        own."""
        database.adopt()
        while not self._is_over:
            self._is_owed.wait()
            self._is_owed.clear()
            if not self._is_over:
                time.sleep(GIVE_BACK_AFTER_S)
            self._publish_granted()
            leases = self.take_owed()
            try:
                if leases:
                    publish.publish_granted(admit.gate().release(leases))
            except publish.GATE_ERRORS as error:
                log.info("permits could not be given back; they expire", permits=len(leases), reason=str(error))
            except Exception:
                log.exception("what was granted could not be published; rescue will", permits=len(leases))
        database.close()

    def end(self) -> None:
        """Give nothing back any more, after what is asked for already."""
        self._is_over = True
        self._is_owed.set()

    def hand_over(
        self, recorded: Recorded, results: Sequence[StepResult], max_continuations: int, owed: Leases = NOTHING
    ) -> Continuation:
        """After the commit, one call: permits go back (with those that are `owed`), waiters get them, and what became
        ready asks for its own. Returns what this visit continues with."""
        prepared = prepare.prepare(recorded.ready)
        ready = prepared.steps
        held: dict[UUID, list[str]] = {}
        back: dict[UUID, str] = {}
        for result in results:
            claim = result.claim
            if isinstance(result.outcome, HandBack) and recorded.statuses.get(claim.id) == "ready":
                back[claim.id] = str(claim.lease)
                ready.append(_ready_again(claim))
            elif claim.lease is not None:
                held.setdefault(claim.lease, []).append(claim.id.hex)
        leases = together(owed, {str(lease): ids for lease, ids in held.items()})
        lease, requested_at = str(recorded.lease), time.monotonic()
        claimed_ahead = recorded.claimed
        count = max(self._in_flight.room_for(max_continuations), len(claimed_ahead)) if max_continuations else 0
        take = Capacity(count=count, lanes=tuple(self._profile.lanes), lease=lease) if count else None
        requests = admit.requests([*claimed_ahead, *ready], leases=back)
        ended = [run_id for run_id, _ in recorded.ended] + prepared.ended
        busy = {*ended, *(claim.run_id for claim in claimed_ahead), *(step.run_id for step in ready)}
        try:
            answer = admit.gate().release(
                leases,
                requests,
                unused=[id_.hex for id_ in (*recorded.unstarted, *prepared.unstarted)],
                runs=[run_id.hex for run_id in ended],
                sleepers=[run_id.hex for run_id in sleepers.after(results, recorded.statuses, busy=busy)],
                pauses=_pauses(results),
                take=take,
            )
        except publish.GATE_ERRORS as error:
            publish.leave_ready(ready, error)
            self._give_back(claimed_ahead)
            return Continuation([], requested_at)
        admit.note_refusals(answer, requests)
        claims = self._started(claimed_ahead, answer, lease)
        mine = {claim.id.hex for claim in claimed_ahead}
        claims += self._claim_taken([id_ for id_ in answer.taken if id_ not in mine], recorded.lease)
        if admit.sync_revision(answer):
            requested_at = -math.inf  # the policies have changed: the stamps may be too old by the new ones
        publish.publish_granted(answer.without(mine), ready)
        return Continuation(claims, requested_at)

    def _started(self, claimed_ahead: Sequence[Claim], answer: Answer, lease: str) -> list[Claim]:
        """Of the successors that were claimed in advance: those that have their permits. The rest goes back."""
        taken, granted = set(answer.taken), set(answer.granted)
        reserved = [claim.id.hex for claim in claimed_ahead if claim.id.hex in granted]
        if reserved:
            try:
                more, unknown = admit.gate().confirm(lease, reserved)
                publish.publish_granted(more)
                taken |= set(reserved) - set(unknown)
            except publish.GATE_ERRORS as error:
                log.info("nothing may start now, steps are handed back", steps=len(reserved), reason=str(error))
        self._give_back([claim for claim in claimed_ahead if claim.id.hex not in taken])
        return [claim for claim in claimed_ahead if claim.id.hex in taken]

    def _give_back(self, claims: Sequence[Claim]) -> None:
        """running → ready for claimed steps without permits.

        They ask the gate once more: it may have granted them while they were still running here.
        """
        if claims:
            statuses = record(
                [StepResult(claim=claim, outcome=HandBack()) for claim in claims], worker=self._profile.id
            ).statuses
            publish.dispatch([_ready_again(claim) for claim in claims if statuses.get(claim.id) == "ready"])

    def may_start(self, visits: Sequence[Visit]) -> set[UUID]:
        """Those whose stamp is young enough, or could be renewed: a start counts in a window when it really is.

        An answer may itself come so late that its stamp is too old: the gate is asked again then, for a while. Nothing
        but the gate is waited for: what its answers grant to others is published by another thread. One thread asks
        at a time: fifty that wake together would each see their answers too late.
        """
        now = time.monotonic()
        if not any(now > visit.start_by for visit in visits):
            return {visit.claim.id for visit in visits}
        has_turn = self._starts.acquire(timeout=STARTS_WAIT_S)
        try:
            return self._started_anew(visits)
        finally:
            if has_turn:
                self._starts.release()

    def _started_anew(self, visits: Sequence[Visit]) -> set[UUID]:
        may, renewals, until = {visit.claim.id for visit in visits}, 0, time.monotonic() + RENEW_FOR_S
        while True:
            now = time.monotonic()
            late = [visit for visit in visits if visit.claim.id in may and now > visit.start_by]
            if not late:
                return may
            if renewals >= MIN_RENEWALS and now >= until:
                break
            may -= self._renew_stamps(late)
            renewals += 1
        log.warning("no stamp was renewed in time, steps are handed back", steps=len(late), renewals=renewals)
        for visit in late:
            self.leave_alone(visit)
        return may - {visit.claim.id for visit in late}

    def leave_alone(self, visit: Visit) -> None:
        """Have a step rest once it is handed back: no stamp of it is renewed in time now."""
        visit.leave_for_s = random.uniform(1.0, 2.0) * LATE_WAIT_S

    def _renew_stamps(self, late: Sequence[Visit]) -> set[UUID]:
        """Have steps that are held already start now, by the gate's clock. Returns those that may not."""
        by_lease: dict[UUID | None, list[Visit]] = {}
        for visit in late:
            by_lease.setdefault(visit.claim.lease, []).append(visit)
        found: set[UUID] = set()
        for lease, group in by_lease.items():
            requested_at = time.monotonic()
            try:
                answer, refused = admit.gate().confirm(str(lease), [v.claim.id.hex for v in group], again=True)
                admit.sync_revision(answer)  # before the slack is read
                self._publish_soon(answer)
            except publish.GATE_ERRORS as error:
                log.info("nothing may start now, steps are handed back", steps=len(group), reason=str(error))
                refused = [visit.claim.id.hex for visit in group]
            self.set_start_by(group, requested_at)
            found |= {UUID(id_) for id_ in refused}
        return found

    def set_start_by(self, visits: Sequence[Visit], requested_at: float) -> None:
        """Set until when each of the visits may start, whose permits were asked for at `requested_at`."""
        if not admit.is_on():
            return
        known: dict[tuple[UUID, str], float] = {}
        for visit in visits:
            kind = (visit.claim.version_id, visit.claim.key)
            if kind not in known:
                known[kind] = requested_at + admit.slack_s(*kind)
            visit.start_by = known[kind]

    def renew(self, held: Sequence[Visit]) -> None:
        """At the gate, after the rows: a permit outlives its row's lease."""
        if not admit.is_on():
            return
        leases: dict[str, list[str]] = {}
        for visit in held:
            leases.setdefault(str(visit.claim.lease), []).append(visit.claim.id.hex)
        try:
            answer, lost = admit.gate().renew(leases)
            admit.sync_revision(answer)
            if lost:
                log.warning("permits of executing steps are gone", steps=len(lost))
        except publish.GATE_ERRORS as error:
            log.warning("permits could not be renewed", steps=len(held), reason=str(error))


def _pauses(results: Sequence[StepResult]) -> list[Pause]:
    return [
        Pause(instance=instance, seconds=result.pause_s)
        for result in results
        if result.pause_s > 0
        for instance in admit.provider_pauses(result.claim, {})
    ]


def _ready_again(claim: Claim) -> ReadyStep:
    """A step that was handed back, as it asks again."""
    return ReadyStep(
        id=claim.id,
        run_id=claim.run_id,
        version_id=claim.version_id,
        key=claim.key,
        queue=claim.queue,
        type=claim.type,
        attempt=claim.attempt,
        needs_total=0,
        needs_met=0,
        needs_prepare=True,
        priority=claim.priority,
        path=claim.path,
        isolated=claim.losses > 0,
    )
