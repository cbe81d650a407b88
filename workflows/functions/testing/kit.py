"""`FlowKit`: flows in Python, run within a test: no Postgres, no broker, no worker, and time that the test moves."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workflows.duration import parse_ms
from workflows.functions.flows import MAIN, FunctionFlow
from workflows.functions.payloads import ReceivedEvent
from workflows.functions.replay import network
from workflows.functions.replay.check import Replayer, Verdict
from workflows.functions.replay.recorded import from_json, to_json
from workflows.functions.testing.execution import Execution
from workflows.functions.testing.rows import Entry, Expected, Row, SentEvent, StepCall, difference
from workflows.functions.testing.stubs import FlowTestError
from workflows.functions.testing.world import World
from workflows.models.event import SYSTEM
from workflows.steps import callback_urls

Duration = str | int | dt.timedelta
MAX_TIMERS = 100_000


class FlowKit:
    """Runs flows in this process. All runs of a kit share its clock, its events and its stubs."""

    def __init__(self, at: dt.datetime | None = None) -> None:
        """`at`: the time at which the kit begins, with its zone; now, unless given."""
        self._world = World(_with_zone(at) if at is not None else dt.datetime.now(dt.UTC))

    # --- runs ---------------------------------------------------------------------------------------------------------

    def start(
        self,
        flow: FunctionFlow,
        data: Any = None,
        *,
        event: str | ReceivedEvent | Mapping[str, Any] | None = None,
        user: Mapping[str, Any] | None = None,
    ) -> FlowRun:
        """Start a run, and let it go on until it has ended or waits.

        `data`: what starts it, JSON or a pydantic model. `event`: the name of the event, or all of it (`{name, data,
        user}`); by default that of the flow's only event.

        Raises InvalidInput for data that the flow's model refuses, Nondeterminism where the code asks for other steps
        when it is replayed, and NotStubbed for a step that would reach something outside.
        """
        if not isinstance(flow, FunctionFlow):
            raise FlowTestError(f"start: {flow!r} is no flow; give the function that has @flow above it.")
        execution = self._world.start(flow, self._facts(flow, data, event, user))
        self._world.settle()
        return FlowRun(self, execution)

    def tick(self, flow: FunctionFlow) -> FlowRun:
        """A run by the flow's schedule, as celery-beat would start it now. Raises FlowTestError without one."""
        found = [trigger.cron for trigger in self._world.versions.spec_of(flow).on if trigger.cron]
        if not found:
            raise FlowTestError(f"tick: the flow {flow.slug!r} has no schedule; give it on=Cron(…).")
        value = {"cron": found[0], "scheduledFor": self.now.isoformat()}
        return self.start(flow, value, event=f"{SYSTEM}cron")

    def _facts(
        self, flow: FunctionFlow, data: Any, event: str | ReceivedEvent | Mapping[str, Any] | None, user: Any
    ) -> dict[str, Any]:
        if isinstance(event, ReceivedEvent):
            event = {"name": event.name, "data": event.data, "user": event.user, "id": event.id}
        if isinstance(event, Mapping):
            if data is not None:
                raise FlowTestError("start: give the data within the event, or by itself.")
            given = dict(event)
            name = given.get("name") or self._only_event(flow)
            return self._world.facts(name, given.get("data"), given.get("user") or user, given.get("id"))
        return self._world.facts(event if event is not None else self._only_event(flow), data, user)

    def _only_event(self, flow: FunctionFlow) -> str:
        names = [trigger.event for trigger in self._world.versions.spec_of(flow).on if trigger.event]
        return names[0] if len(names) == 1 and "*" not in names[0] else ""

    @property
    def runs(self) -> list[FlowRun]:
        """All runs, those of invoked flows too, in the order in which they began."""
        return [FlowRun(self, execution) for execution in self._world.executions.values()]

    def runs_of(self, flow: FunctionFlow | str) -> list[FlowRun]:
        """The runs of a flow."""
        slug = flow if isinstance(flow, str) else flow.slug
        return [run for run in self.runs if run.flow == slug]

    # --- what stands in for steps -------------------------------------------------------------------------------------

    def stub(self, name: str, *results: Any, flow: FunctionFlow | str = "") -> None:
        """Have the steps of this name give this instead of what they do: a value, an error (an exception or its class),
        or a function that gets the step's own arguments.

        Several results are those of its tries, one after the other; the last one stays. `charge:1` is the second call
        of `charge` alone. `flow`: of this flow only.
        """
        self._world.stubs.add(name, results, flow if isinstance(flow, str) else flow.slug)

    def unstub(self, name: str, *, flow: FunctionFlow | str = "") -> None:
        """Have the steps of this name do again what they do."""
        self._world.stubs.remove(name, flow if isinstance(flow, str) else flow.slug)

    def calls(self, name: str) -> list[StepCall]:
        """The calls of a step's function or of its stub, in all runs: one for each try."""
        return [call for _, call in self._world.calls if call.name == name or call.name.partition(":")[0] == name]

    @property
    def secrets(self) -> dict[str, str]:
        """The stored secrets, by name: what `step.secret` reads."""
        return self._world.secrets

    # --- events -------------------------------------------------------------------------------------------------------

    def listen(self, *flows: FunctionFlow) -> None:
        """From now on the events of the kit start these flows, by their triggers and filters."""
        self._world.listening += [flow for flow in flows if flow not in self._world.listening]

    def send(self, name: str, data: Any = None, *, user: Mapping[str, Any] | None = None) -> list[FlowRun]:
        """An event comes: it ends the waits for it, cancels by `cancel_on`, and starts the flows that listen. Returns
        the runs that it has started."""
        started = self._world.deliver(self._world.facts(name, {} if data is None else data, user))
        self._world.settle()
        return [FlowRun(self, execution) for execution in started]

    @property
    def sent(self) -> list[SentEvent]:
        """The events of the kit: those that steps have sent, and those of the test."""
        return list(self._world.events)

    # --- time ---------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> dt.datetime:
        """The time of the kit. What code reads by `datetime.now()` is the machine's: use `step.now()`."""
        return self._world.now

    def advance(self, duration: Duration) -> None:
        """Let time pass: `"3d"`, milliseconds or a timedelta. What becomes due on the way happens at its own time."""
        ms = parse_ms(round(duration.total_seconds() * 1000) if isinstance(duration, dt.timedelta) else duration)
        if ms < 0:
            raise FlowTestError(f"advance({duration!r}): time does not go back.")
        self.advance_to(self.now + dt.timedelta(milliseconds=ms))

    def advance_to(self, when: dt.datetime) -> None:
        """Let time pass until then."""
        until = _with_zone(when)
        if until < self.now:
            raise FlowTestError(f"advance_to({when.isoformat()}): it is {self.now.isoformat()}; time does not go back.")
        for _ in range(MAX_TIMERS):
            due = self._next()
            if due is None or due > until:
                self._world.now = until
                return
            self._pass_to(due)
        raise FlowTestError(f"More than {MAX_TIMERS:,} timers were due until {until.isoformat()}.")

    def _next(self) -> dt.datetime | None:
        return min((at for each in self._world.executions.values() for at in each.timers()), default=None)

    def _pass_to(self, when: dt.datetime) -> None:
        self._world.now = max(self._world.now, when)
        for execution in list(self._world.executions.values()):
            execution.fire()
        self._world.settle()

    # --- recorded runs ------------------------------------------------------------------------------------------------

    def replay(self, flow: FunctionFlow, journal: str | Path | Mapping[str, Any]) -> Verdict:
        """Whether the flow's code fits a run that was exported (`manage.py runs export-journal`): a file, or its
        content. The functions of its steps are never called; `assert` the answer, or read its `sentence`.

        Raises InvalidInput for what is no exported journal.
        """
        if isinstance(journal, Mapping):
            recorded = from_json(journal)
        else:
            path = Path(journal)
            recorded = from_json(_read(path), what=str(path))
        if recorded.flow != flow.slug:
            raise FlowTestError(f"replay: the journal is of the flow {recorded.flow!r}, not of {flow.slug!r}.")
        with network.refused():
            return Replayer(self._world.secrets or None).check(flow, recorded)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FlowTestError(f"There is no {path}; make it with: manage.py runs export-journal RUN > {path}") from None
    except ValueError as error:
        raise FlowTestError(f"{path} is no JSON: {error}") from None


def _with_zone(when: dt.datetime) -> dt.datetime:
    if when.tzinfo is None:
        raise FlowTestError(f"{when.isoformat()} has no zone; give an aware time, such as datetime(…, tzinfo=UTC).")
    return when.astimezone(dt.UTC)


class FlowRun:
    """A run in a kit."""

    def __init__(self, kit: FlowKit, execution: Execution) -> None:
        self._kit = kit
        self._world = kit._world
        self._execution = execution

    def __repr__(self) -> str:
        return f"<run of {self.flow}: {self.status}>"

    # --- what became of it --------------------------------------------------------------------------------------------

    @property
    def flow(self) -> str:
        """The id of its flow."""
        return self._execution.flow.slug

    @property
    def status(self) -> str:
        """`waiting`, `completed`, `failed` or `cancelled`."""
        return self._execution.status

    @property
    def output(self) -> Any:
        """What the flow has returned, as JSON. Raises FlowTestError for a run that has not completed."""
        if self.status != "completed":
            raise FlowTestError(f"The run has no output: it is {self._state()}")
        return self._execution.output

    @property
    def error(self) -> dict[str, Any] | None:
        """The error of a run that has failed (or of the try before, while the code waits for the next): `{category,
        name, message, traceback}`."""
        return self._execution.error

    @property
    def cancel_reason(self) -> str:
        """Why it was cancelled."""
        return self._execution.cancel_reason

    @property
    def attempts(self) -> int:
        """How often the flow's own code was tried."""
        return self._execution.attempt

    @property
    def progress(self) -> dict[str, Any] | None:
        """The latest report of `step.progress`: `{percent, message}`."""
        return self._execution.progress

    @property
    def logs(self) -> list[dict[str, str]]:
        """What `step.logger` was told: `{at, level, message}`."""
        return list(self._execution.logs)

    @property
    def journal(self) -> list[Entry]:
        """Its steps, in the order in which the code has asked for them."""
        return [row.entry() for row in self._rows()]

    def entry(self, name: str) -> Entry:
        """One of its steps. Raises FlowTestError where it has none of the name."""
        return self._row(name).entry()

    @property
    def waiting_for(self) -> list[str]:
        """What it waits for, a sentence each."""
        return [row.waits_for() for row in self._rows() if row.status == "waiting"]

    def assert_journal(self, expected: Sequence[Expected]) -> None:
        """Raises AssertionError with both, unless the journal is this: of each step its name, or `(name, status)`,
        `(name, status, attempts)`, `(name, status, attempts, output)`, or an Entry."""
        if said := difference(self.journal, expected):
            raise FlowTestError(f"{said}\nThe run is {self._state()}")

    def export(self) -> dict[str, Any]:
        """The run as JSON, as `manage.py runs export-journal` gives one: for `kit.replay`."""
        return to_json(self._world.recorded(self._execution))

    # --- what happens to it -------------------------------------------------------------------------------------------

    def advance(self, duration: Duration) -> FlowRun:
        """Let time pass (for all runs of the kit)."""
        self._kit.advance(duration)
        return self

    def finish(self, within: Duration = "366d") -> FlowRun:
        """Let time pass from timer to timer until the run has ended. Raises FlowTestError where it waits for something
        that no time brings, or has not ended within so long."""
        ms = parse_ms(round(within.total_seconds() * 1000) if isinstance(within, dt.timedelta) else within)
        until = self._kit.now + dt.timedelta(milliseconds=ms)
        while self._execution.is_live:
            due = self._kit._next()
            if due is None or due > until:
                raise FlowTestError(f"The run does not end by itself within {within}: it is {self._state()}")
            self._kit._pass_to(due)
        return self

    def send(self, name: str, data: Any = None, *, user: Mapping[str, Any] | None = None) -> FlowRun:
        """An event comes (to all runs of the kit)."""
        self._kit.send(name, data, user=user)
        return self

    def approve(self, name: str, *, by: str = "somebody", comment: str = "") -> FlowRun:
        """A person approves. Raises FlowTestError where the run does not wait for that decision."""
        return self._decide(name, approved=True, by=by, comment=comment)

    def reject(self, name: str, *, by: str = "somebody", comment: str = "") -> FlowRun:
        """A person rejects. Raises FlowTestError where the run does not wait for that decision."""
        return self._decide(name, approved=False, by=by, comment=comment)

    def _decide(self, name: str, *, approved: bool, by: str, comment: str) -> FlowRun:
        row = self._waiting(name, "approval", "a decision")
        answer = {"approved": approved, "by": by, "comment": comment, "at": self._kit.now.isoformat()}
        self._world.take(self._execution, row, by="answer", answer=answer)
        self._world.settle()
        return self

    def call_back(self, name: str, body: Any = None) -> FlowRun:
        """The step's address is called with this body; before the step is reached, too. It counts once."""
        event = callback_urls.event_name(callback_urls.token_of(self._execution.id, name, MAIN))
        if any(each.name == event for each in self._world.events):
            raise FlowTestError(f"call_back({name!r}): the address was called before; it is good for one call.")
        self._world.deliver(self._world.facts(event, body))
        self._world.settle()
        return self

    def cancel(self, reason: str = "") -> FlowRun:
        """Somebody cancels the run."""
        if not self._execution.is_live:
            raise FlowTestError(f"The run can't be cancelled: it is {self._state()}")
        self._execution.end("cancelled", reason=reason)
        self._world.settle()
        return self

    def _rows(self) -> list[Row]:
        return sorted(self._execution.rows.values(), key=lambda row: row.position)

    def _row(self, name: str) -> Row:
        row = self._execution.rows.get(name)
        if row is None:
            there = ", ".join(repr(row.key) for row in self._rows()) or "none"
            raise FlowTestError(f"The run has no step {name!r}; there are {there}. It is {self._state()}")
        return row

    def _waiting(self, name: str, kind: str, what: str) -> Row:
        row = self._row(name)
        if row.wait is None or row.wait.kind != kind:
            raise FlowTestError(f"The step {name!r} does not wait for {what}: it is {row.entry()}.")
        return row

    def _state(self) -> str:
        """Where it stands, for a message."""
        if self.status == "waiting":
            return f"waiting ({'; '.join(self.waiting_for) or 'for the next try of its code'})."
        if self.status == "failed" and self.error is not None:
            return f"failed: {self.error['name']}: {self.error['message']}"
        return f"cancelled: {self.cancel_reason}" if self.status == "cancelled" else f"{self.status}."
