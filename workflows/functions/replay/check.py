"""Does the code of a flow fit a recorded run? It is visited as by a worker, and performs nothing."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

import structlog
from asgiref.sync import async_to_sync, sync_to_async

from workflows.definitions.compiled import NIL_UUID, CompiledFlow, compile_flow
from workflows.definitions.discovered import CallOptions, Discovered, read_options
from workflows.definitions.schema import FlowSpec
from workflows.engine.pipeline import perform
from workflows.engine.pipeline.perform import Visit
from workflows.engine.state.records import Claim
from workflows.engine.state.transitions.calls import NewCall
from workflows.functions import payloads
from workflows.functions.calls import Call
from workflows.functions.driving.async_driver import AsyncDriver
from workflows.functions.driving.sync_driver import Driver
from workflows.functions.failures import Nondeterminism, StepFailed
from workflows.functions.flows import MAIN, FunctionFlow
from workflows.functions.journal import Journal
from workflows.functions.replay.network import NetworkRefused
from workflows.functions.replay.recorded import RecordedRun
from workflows.functions.visits import FunctionRun
from workflows.payload import dump
from workflows.steps.context import AttemptLog, StepContext
from workflows.steps.masking import Secrets
from workflows.steps.outcome import Completed, Outcome

HIDDEN = "hidden"
"""What a secret reads as where nobody gives its value."""


class Fit(StrEnum):
    """Whether the code fits: it does; it asks for other steps; it fails before it has gone through the journal."""

    FITS = "fits"
    OTHER_STEPS = "other_steps"
    RAISES = "raises"
    OTHER_OUTPUT = "other_output"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the code made of a recorded run. `sentence` says what does not fit; `asks_for`: the steps that it would ask
    for next."""

    run_id: UUID
    fit: Fit
    sentence: str = ""
    asks_for: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return self.fit is Fit.FITS

    def __bool__(self) -> bool:
        return self.fits

    def __str__(self) -> str:
        return self.sentence or "The code fits the journal."


class Versions:
    """Flows as they are compiled, without a database."""

    def __init__(self) -> None:
        self._compiled: dict[tuple[str, str], tuple[FlowSpec, CompiledFlow]] = {}
        self._discovered: dict[UUID, dict[str, Discovered]] = {}

    def of(self, flow: FunctionFlow) -> CompiledFlow:
        """The flow of this process's code. Raises DefinitionProblems."""
        return self._known(flow)[1]

    def spec_of(self, flow: FunctionFlow) -> FlowSpec:
        """Its checked definition. Raises DefinitionProblems."""
        return self._known(flow)[0]

    def _known(self, flow: FunctionFlow) -> tuple[FlowSpec, CompiledFlow]:
        key = (flow.slug, flow.digest)
        if key not in self._compiled:
            version_id = uuid.uuid5(NIL_UUID, ":".join(key))
            known = self._discovered[version_id] = {}
            spec = flow.spec()
            compiled = compile_flow(
                spec, version_id=version_id, flow_id=version_id, number=1, find_discovered=known.get
            )
            self._compiled[key] = (spec, compiled)
        return self._compiled[key]

    def note(self, version_id: UUID, name: str, options: CallOptions) -> None:
        """Keep the options of the first step of a name."""
        given = options.model_dump(mode="json", by_alias=True, exclude_unset=True)
        self._discovered[version_id].setdefault(name, read_options(name, given))


class NoSecrets(Mapping[str, str]):
    """Any secret, hidden."""

    def __getitem__(self, name: str) -> str:
        return HIDDEN

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


class Nothing:
    """The surroundings of a visit that performs nothing: what the code asks for is noted."""

    def __init__(self, version: CompiledFlow, versions: Versions, secrets: Mapping[str, str], now: dt.datetime) -> None:
        self._version, self._versions, self._secrets, self._now = version, versions, secrets, now
        self.asked: list[str] = []

    def now(self) -> dt.datetime:
        return self._now

    def flow_of(self, version_id: UUID) -> CompiledFlow:
        return self._version

    def note_discovered(self, version_id: UUID, name: str, options: CallOptions) -> None:
        self._versions.note(version_id, name, options)

    def atomically(self, call: Call, context: StepContext, *, wakes: bool) -> Any:
        raise RuntimeError("No step is performed while a run is replayed.")

    def await_rows(self, context: StepContext, tables: Sequence[str], timeout_s: float) -> float:
        raise RuntimeError("No step is performed while a run is replayed.")

    def note_handled(self, step_run_ids: Sequence[UUID]) -> None:
        """Nothing is written."""

    def open_steps(self, function: Claim, new: Sequence[NewCall], calls: Mapping[UUID, Call]) -> list[UUID]:
        self.asked += [call.key for call in new]
        return []

    def secrets_of(self, org_id: UUID) -> Mapping[str, str]:
        return self._secrets

    def adapted(self, call: Call) -> Call:
        return call

    def result_of(self, work: Coroutine[Any, Any, Any]) -> Any:
        work.close()
        raise RuntimeError("No step is performed while a run is replayed.")

    async def off_loop(self, work: Any, *args: Any) -> Any:
        return work(*args)

    async def in_thread(self, work: Any, *args: Any) -> Any:
        return await sync_to_async(work, thread_sensitive=True)(*args)


def function_claim(version: CompiledFlow, run_id: UUID, function_id: UUID, *, attempt: int, **more: Any) -> Claim:
    """The claim of a function's step, as a worker would have it."""
    driver = version.steps[MAIN]
    given = {"wake_seq": 0, "losses": 0, "server_retry_waits": 0, **more}
    return Claim(
        id=function_id,
        run_id=run_id,
        version_id=version.version_id,
        org_id=version.org_id,
        key=MAIN,
        attempt=attempt,
        timeout_ms=driver.timeout_ms,
        queue=driver.type.queue,
        all_needs_skipped=False,
        lease=uuid.uuid4(),
        type=driver.type.name,
        **given,
    )


def drive(run: FunctionRun) -> Outcome:
    """Visit the code, sync or async, in this thread."""
    if run.flow.is_async:
        outcome: Outcome = async_to_sync(AsyncDriver(run).drive)()
        return outcome
    return Driver(run).drive()


class Replayer:
    """Checks recorded runs against the code of this process. `secrets`: those that the code may read."""

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        self._versions = Versions()
        self._secrets = NoSecrets() if secrets is None else secrets

    def check(self, flow: FunctionFlow, recorded: RecordedRun, *, compare_output: bool = False) -> Verdict:
        """Visit the code with the journal of the run. The functions of its steps are never called.

        `compare_output`: of a run that has completed, the code has to give the same output too.
        """
        version = self._versions.of(flow)
        function_id = uuid.uuid5(recorded.id, MAIN)
        claim = function_claim(version, recorded.id, function_id, attempt=recorded.attempt)
        visit = Visit(claim=claim, flow=version, step=version.steps[MAIN], scope=recorded.scope)
        around = Nothing(version, self._versions, self._secrets, dt.datetime.now(dt.UTC))
        context = perform.context_of(visit, version.steps[MAIN].constant, Secrets())  # type: ignore[arg-type]
        context.now = around.now
        context.log = AttemptLog(structlog.get_logger, context.secrets, is_muted=True)
        run = FunctionRun(
            flow=flow,
            context=context,
            journal=Journal(recorded.steps, began_at=recorded.created_at),
            is_same_code=False,
            function_id=function_id,
            around=around,
        )
        fit, sentence = self._judge(run, recorded, compare_output=compare_output)
        return Verdict(run_id=recorded.id, fit=fit, sentence=sentence, asks_for=tuple(around.asked))

    def _judge(self, run: FunctionRun, recorded: RecordedRun, *, compare_output: bool) -> tuple[Fit, str]:
        try:
            outcome = drive(run)
            if not isinstance(outcome, Completed):
                run.journal.check_passed()
        except Nondeterminism as error:
            return Fit.OTHER_STEPS, str(error)
        except StepFailed as error:
            return _of_failure(run, error)
        except NetworkRefused as error:
            return Fit.RAISES, str(error)
        except Exception as error:
            if recorded.status == "failed" and not run.journal.is_replaying:
                return Fit.FITS, ""
            said = f"{type(error).__name__}: {error}"
            return Fit.RAISES, f"The code raises {said} where the run has gone through; its try would fail."
        if recorded.status == "completed" and not isinstance(outcome, Completed):
            asked = ", ".join(repr(name) for name in getattr(run.around, "asked", ()))
            return Fit.OTHER_STEPS, f"The run has completed, the code now asks for {asked or 'more'}."
        if compare_output and isinstance(outcome, Completed) and recorded.status == "completed":
            return _compared(outcome.output, recorded.output)
        return Fit.FITS, ""


def _of_failure(run: FunctionRun, error: StepFailed) -> tuple[Fit, str]:
    """A step's failure that the code does not catch is an end of the run, unless the journal goes on after it."""
    try:
        run.journal.check_end()
    except Nondeterminism as further:
        return Fit.OTHER_STEPS, f"The code does not catch the failure of the step {error.name!r} any more. {further}"
    return Fit.FITS, ""


def _compared(output: Any, recorded: Any) -> tuple[Fit, str]:
    now, then = dump(payloads.plain(output)), dump(recorded)
    if json.loads(now) == json.loads(then):
        return Fit.FITS, ""
    return (
        Fit.OTHER_OUTPUT,
        f"The code gives {_short(now)} where it gave {_short(then)}: what a flow returns may depend on its event and "
        "its steps only. Take the time from step.now(), random numbers from step.random(), and read what changes in a "
        "step.",
    )


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:199]}…"
