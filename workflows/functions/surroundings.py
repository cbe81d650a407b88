"""What a visit needs of its process: the engine, or what takes its place in a test."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from workflows import signals, this_process
from workflows.definitions.compiled import CompiledFlow
from workflows.definitions.discovered import CallOptions
from workflows.engine.calls import inline
from workflows.engine.calls.inline import FunctionVisit
from workflows.engine.pipeline.perform import Visit
from workflows.engine.sql import rows as rows_sql
from workflows.engine.state import database, flow_cache, secret_sources
from workflows.engine.state.records import Claim, StepResult
from workflows.engine.state.transitions.calls import NewCall
from workflows.functions.calls import Call
from workflows.functions.performing import atomically, background
from workflows.functions.performing.local_calls import LocalCalls
from workflows.steps.context import StepContext


class Performer(Protocol):
    """What performs steps within a visit: in a worker `engine.calls.inline.Inline`."""

    def may_begin(self, function: FunctionVisit, call: NewCall) -> bool: ...
    def begin(self, function: FunctionVisit, call: NewCall) -> Visit | None: ...
    def end(self, function: FunctionVisit, visit: Visit, result: StepResult) -> bool: ...
    def record(self, function: FunctionVisit, visit: Visit, result: StepResult) -> bool: ...
    def recorded(self, function: FunctionVisit, visit: Visit, result: StepResult) -> None: ...
    def close(self, function: FunctionVisit) -> None: ...


class Surroundings(Protocol):
    """What a visit needs of the process beside its journal: the engine, or what takes its place in a test."""

    def now(self) -> dt.datetime:
        """The time."""

    def flow_of(self, version_id: UUID) -> CompiledFlow:
        """The compiled version of the run."""

    def note_discovered(self, version_id: UUID, name: str, options: CallOptions) -> object:
        """Keep the options of the first step of a name."""

    def open_steps(self, function: Claim, new: Sequence[NewCall], calls: Mapping[UUID, Call]) -> list[UUID]:
        """Have steps performed by visits of their own. Returns those that are new. `calls`: what performs them."""

    def atomically(self, call: Call, context: StepContext, *, wakes: bool) -> Any:
        """What a function returns whose writes and whose record are one transaction."""

    def await_rows(self, context: StepContext, tables: Sequence[str], timeout_s: float) -> float:
        """The step is about to look for rows of these tables: changes from now on wake it. Returns the seconds that it
        may still wait."""

    def note_handled(self, step_run_ids: Sequence[UUID]) -> None:
        """The code goes on after the failures of these steps."""

    def secrets_of(self, org_id: UUID) -> Mapping[str, str]:
        """The stored secrets of an organization."""

    def adapted(self, call: Call) -> Call:
        """The call as it is to be performed."""

    def result_of(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What a coroutine of the user's returns."""

    async def off_loop(self, work: Any, *args: Any) -> Any:
        """Call the engine in a thread."""

    async def in_thread(self, work: Any, *args: Any) -> Any:
        """Call blocking code of the user's in a thread."""


class Engine:
    """The surroundings of visits in a worker: the database, and the threads of the process."""

    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    def flow_of(self, version_id: UUID) -> CompiledFlow:
        return flow_cache.flow_of(version_id)

    def note_discovered(self, version_id: UUID, name: str, options: CallOptions) -> object:
        return flow_cache.note_discovered(version_id, name, options)

    def open_steps(self, function: Claim, new: Sequence[NewCall], calls: Mapping[UUID, Call]) -> list[UUID]:
        this_process.own(LocalCalls).keep({each.id: calls[each.id] for each in new})
        return inline.open_steps(function, new)

    def atomically(self, call: Call, context: StepContext, *, wakes: bool) -> Any:
        return atomically.perform(call, context, wakes=wakes)

    def await_rows(self, context: StepContext, tables: Sequence[str], timeout_s: float) -> float:
        with database.borrowed():
            (row,) = rows_sql.await_rows(
                step=context.step_run_id, org=context.org_id, tables=tables, timeout_s=timeout_s
            )
        return row.left_s

    def note_handled(self, step_run_ids: Sequence[UUID]) -> None:
        with database.borrowed_from_django():
            signals.failures_handled.send(sender=None, step_run_ids=step_run_ids)

    def secrets_of(self, org_id: UUID) -> Mapping[str, str]:
        with database.borrowed():
            return secret_sources.secrets_of(org_id)[0]

    def adapted(self, call: Call) -> Call:
        return call

    def result_of(self, work: Coroutine[Any, Any, Any]) -> Any:
        return background.result_of(work)

    async def off_loop(self, work: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(background.engine_threads(), work, *args)

    async def in_thread(self, work: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(
            background.user_threads(), background.with_connections_closed, work, *args
        )
