"""What takes the engine's place around a visit in the kit."""

from __future__ import annotations

import datetime as dt
import functools
import inspect
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction

from workflows.definitions.compiled import CompiledFlow
from workflows.definitions.discovered import CallOptions
from workflows.engine.calls.inline import FunctionVisit
from workflows.engine.pipeline.perform import Visit
from workflows.engine.state.records import Claim, StepResult
from workflows.engine.state.transitions.calls import NewCall
from workflows.functions.calls import Call, handler_of
from workflows.functions.testing.rows import StepCall
from workflows.functions.testing.stubs import FlowTestError, NotStubbed, result_of
from workflows.steps.context import StepContext
from workflows.steps.outcome import Completed
from workflows.steps.registry import REGISTRY

if TYPE_CHECKING:
    from workflows.functions.testing.execution import Execution


class Surroundings:
    """Of a visit: the kit's clock, its secrets, its stubs."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._world = execution.world

    def now(self) -> dt.datetime:
        return self._world.now

    def flow_of(self, version_id: UUID) -> CompiledFlow:
        return self._execution.version

    def note_discovered(self, version_id: UUID, name: str, options: CallOptions) -> None:
        self._world.versions.note(version_id, name, options)

    def atomically(self, call: Call, context: StepContext, *, wakes: bool) -> Any:
        return handler_of(call)(context)

    def await_rows(self, context: StepContext, tables: Sequence[str], timeout_s: float) -> float:
        began = self._execution.looks.setdefault(context.step_run_id, self.now())
        return timeout_s - (self.now() - began).total_seconds()

    def note_handled(self, step_run_ids: Sequence[UUID]) -> None:
        """There are no dead letters."""

    def open_steps(self, function: Claim, new: Sequence[NewCall], calls: Mapping[UUID, Call]) -> list[UUID]:
        return [self._execution.add(call).id for call in new]

    def secrets_of(self, org_id: UUID) -> Mapping[str, str]:
        return self._world.secrets

    async def off_loop(self, work: Any, *args: Any) -> Any:
        return work(*args)

    async def in_thread(self, work: Any, *args: Any) -> Any:
        """In the thread of the test: it has the test's transaction."""
        return await sync_to_async(work, thread_sensitive=True)(*args)

    def result_of(self, work: Coroutine[Any, Any, Any]) -> Any:
        """In the thread of the test."""

        async def awaited() -> Any:
            return await work

        return async_to_sync(awaited)()

    def adapted(self, call: Call) -> Call:
        """The call with what stands in for its function, where there is something."""
        handler = functools.partial(self._performed, call)
        if not call.is_async:
            return replace(call, handler=handler, is_atomic=call.is_atomic and self._execution.flow.is_async)

        async def perform_async(context: StepContext) -> Any:
            value = handler(context)
            return await value if inspect.isawaitable(value) else value

        return replace(call, handler=perform_async)

    def _performed(self, call: Call, context: StepContext) -> Any:
        try:
            return self._given(call, context)
        except FlowTestError as error:
            self._world.fault(error)
            raise

    def _given(self, call: Call, context: StepContext) -> Any:
        made = StepCall(
            name=context.key,
            args=call.args,
            kwargs=dict(call.kwargs),
            config=call.config,
            attempt=context.attempt,
            at=self.now(),
        )
        if context.wake_seq == 0:
            self._world.calls.append((self._execution, made))
        stub = self._world.stubs.find(self._execution.flow.slug, call.name, context.key)
        if stub is not None:
            return result_of(stub.next(), call.args, dict(call.kwargs))
        own = self._world.own_types.get(call.options.type) if call.config is not None else None
        if own is not None:
            return own(self._execution, call.config, context)
        if call.options.type in NEEDS_STUB or (call.config is not None and REGISTRY[call.options.type].outbound):
            raise NotStubbed(
                f"The step {context.key!r} of {self._execution.flow.slug!r} is a {call.options.type}, which reaches "
                f"something outside of the test. Say what it gives: stub({call.name!r}, …)."
            )
        if call.is_atomic:  # the journal of the kit is in no transaction
            with transaction.atomic():
                return call.handler(context)
        return call.handler(context)


NEEDS_STUB = frozenset({"celery_task"})
"""Step types that a worker performs somewhere else."""


REPLAYED_AT_EVERY_STEP = 100
"""So many steps of a run; with more of them a visit performs a hundredth, so that long runs take linear time."""


class Performer:
    """Performs one step within a visit; those after it are left to visits of their own."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._left = max(1, len(execution.rows) // REPLAYED_AT_EVERY_STEP)

    def may_begin(self, function: FunctionVisit, call: NewCall) -> bool:
        return self._left > 0

    def begin(self, function: FunctionVisit, call: NewCall) -> Visit | None:
        self._left -= 1
        row = self._execution.add(call)
        row.status = "running"
        return self._execution.open_visit(call.claim(function.claim, uuid.uuid4()), row)

    def end(self, function: FunctionVisit, visit: Visit, result: StepResult) -> bool:
        return self.record(function, visit, result) and isinstance(result.outcome, Completed)

    def record(self, function: FunctionVisit, visit: Visit, result: StepResult) -> bool:
        self._execution.record(self._execution.row_of(visit.claim.id), result)
        return True

    def recorded(self, function: FunctionVisit, visit: Visit, result: StepResult) -> None:
        self.record(function, visit, result)

    def close(self, function: FunctionVisit) -> None:
        """There is nothing left to record."""
