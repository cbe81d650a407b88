"""How a worker process claims steps: those of a message, and those that the gate has handed to it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import UUID

import psycopg
import structlog

from workflows import this_process
from workflows.engine.pipeline import admit, publish
from workflows.engine.state import flow_cache, unloadable
from workflows.engine.state.records import Claim
from workflows.engine.state.transitions import steps as step_transitions
from workflows.engine.telemetry import job_log
from workflows.engine.worker.in_flight import ResultQueue
from workflows.engine.worker.profile import WorkerProfile

log = structlog.get_logger(__name__)
CLAIM_PATIENCE_S = 5.0


class Claimer:
    """Claims steps for a worker process."""

    def __init__(self, profile: WorkerProfile, results: ResultQueue) -> None:
        self._profile = profile
        self._results = results
        self.claimed_until: dict[str, float] = {}
        """By queue: when the newest step was dispatched that has come through the broker."""

    def claim(self, batch: Sequence[tuple[str, int | None]], lease: UUID, *, from_broker: bool = True) -> list[Claim]:
        """Those of the steps that are now this worker's. A step whose version can't be loaded gets its result at once.

        `from_broker`: the steps came through the broker, whose order tells rescue what is lost.
        """
        give_up = time.monotonic() + CLAIM_PATIENCE_S
        while True:
            try:
                claimed = step_transitions.claim(batch, worker=self._profile.id, lease=lease)
                break
            except psycopg.OperationalError as error:
                if time.monotonic() > give_up:
                    log.warning("claim failed; rescue will publish the steps again", steps=len(batch), error=str(error))
                    return []
                time.sleep(0.1)
        for name, moment in claimed.newest_dispatch.items() if from_broker else ():
            if moment > self.claimed_until.get(name, 0.0):
                self.claimed_until[name] = moment
        if len(claimed.claims) == 1 and not claimed.awaited:  # of many runs it is asked by one statement
            this_process.own(admit.Families).note_alone(claimed.claims[0].run_id)
        job_log.started(claimed.claims)
        return self._usable(claimed.claims)

    def _usable(self, claims: list[Claim]) -> list[Claim]:
        usable, refused = flow_cache.divide(claims)
        for claim, why in refused:
            log.warning("a step's version can't be loaded", step_run_id=str(claim.id), reason=str(why))
            self._results.put(unloadable.result_of(claim, why))
        if refused:  # nothing confirms the permits that they came with
            try:
                publish.withdraw([claim.id for claim, _ in refused])
            except Exception as error:
                log.warning("permits could not be given back; the audit will", permits=len(refused), exc_info=error)
        return usable
