"""`step`: what the code of a flow asks for. Each call is one step of the run, remembered by its name.

In an async flow every tool that gives a value is awaited.
"""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS
from django.db.models import QuerySet
from pydantic import BaseModel

from workflows.definitions.discovered import CallOptions
from workflows.errors import ConfigurationFailure
from workflows.functions import calls, payloads
from workflows.functions.calls import Call, Duration
from workflows.functions.failures import StepCallRefused
from workflows.functions.performing.looking import Look, primary_key
from workflows.steps import callback_urls
from workflows.steps.context import AttemptLog, StepContext
from workflows.steps.types import celery_task


class _Run(Protocol):
    """What a tool knows of the visit."""

    draws: Counter[str]
    branch: str

    @property
    def context(self) -> StepContext: ...
    @property
    def journal(self) -> Any: ...


class StepDriver(Protocol):
    """What performs calls: in a sync flow the value is returned, in an async one a coroutine that gives it."""

    run: Any

    def call(self, call: Call) -> Any: ...
    def just(self, value: Any) -> Any: ...

    is_async: bool

    def parallel(self, branches: Sequence[Any], *, return_exceptions: bool = False) -> Any: ...
    def map(self, calls: Sequence[Call], *, parallelism: int | None, return_exceptions: bool) -> Any: ...


class Step:
    """The tools of one visit. Names belong to their calls: the second call of `charge` is `charge:1`."""

    def __init__(self, driver: StepDriver) -> None:
        self._driver = driver

    # --- what a run is ------------------------------------------------------------------------------------------------

    @property
    def run_id(self) -> UUID:
        """The id of the run."""
        run_id: UUID = self._driver.run.context.run_id
        return run_id

    @property
    def flow(self) -> str:
        """The id of the flow."""
        return str(self._driver.run.context.flow)

    @property
    def attempt(self) -> int:
        """How often the code that is being executed has been tried before: 0 at first."""
        return int(self._driver.run.current.attempt) - 1

    def secret(self, name: str) -> str:
        """A stored secret of the organization, masked in all that is kept. Raises StepCallRefused without one."""
        return str(self._driver.run.secret(name))

    # --- steps --------------------------------------------------------------------------------------------------------

    def run(
        self,
        name: str,
        function: Callable[..., Any],
        *args: Any,
        retries: int | None = None,
        retry: str | Mapping[str, Any] | None = None,
        type: str = "python",  # noqa: A002
        timeout: Duration | None = None,
        deadline: dt.datetime | None = None,
        throttling: Mapping[str, Any] | None = None,
        output: type[BaseModel] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call the function once, and give what it has returned: now, and whenever the flow's code runs again.

        `retries`, `retry` (a preset or the fields of a definition's `retry`), `timeout` of one try, `throttling` (as in
        a definition): options of this name. `deadline`: a time with its zone by which the step has to end, however
        many tries it has left; a try that would begin later does not. `type`: whose limits and retries hold. What it
        returns is kept as JSON; a pydantic model is given back as one (`output`, or what the function says it
        returns). Raises StepFailed once its tries are used up, or its deadline leaves it no time (`error` is
        `DeadlinePassed`).
        """
        options = calls.options_of(
            type, timeout=calls.duration_ms(timeout), retries=retries, retry=retry, throttling=throttling
        )
        call = calls.function_call(name, function, args, kwargs, options, output=output)
        return self._driver.call(call if deadline is None else calls.with_deadline(call, deadline))

    def atomic(
        self, name: str, function: Callable[..., Any], *args: Any, using: str = DEFAULT_DB_ALIAS, **kwargs: Any
    ) -> Any:
        """As `run`, but what the function writes by the ORM and the record of the step are ONE transaction: both are
        there, or neither. After a deadlock the function is called again.

        Sync flows only, and only on the database that Headrace uses. No network in it: the transaction is open.
        """
        if using != DEFAULT_DB_ALIAS:
            raise StepCallRefused(
                f"step.atomic({name!r}): the record of the step is in {DEFAULT_DB_ALIAS!r}; a transaction on {using!r} "
                "would not be one with it. Use step.run, and let the function be safe to repeat."
            )
        options, given = _split_options(kwargs)
        call = calls.function_call(name, function, args, given, calls.options_of("python", **options))
        return self._driver.call(replace(call, is_atomic=True))

    def fetch(self, name: str, url: str, *, method: str = "GET", **config: Any) -> Any:
        """An HTTP request with everything that the step type `http_request` has: its output."""
        options, given = _split_options(config)
        return self._typed(name, "http_request", {"url": url, "method": method, **given}, options)

    def task(
        self,
        name: str,
        task: Any,
        *args: Any,
        retries: int | None = None,
        retry: str | Mapping[str, Any] | None = None,
        timeout: Duration | None = None,
        throttling: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run a Celery task of the application, unchanged, on its own queue: what it returns. `task`: the task, its
        name, or a signature with options (`charge.s(1).set(queue="slow")`).

        It holds no thread while the task waits or runs. The outcomes are those of the step type `celery_task`.
        """
        try:
            config = celery_task.config_of(task, *args, **kwargs)
        except ConfigurationFailure as error:
            raise StepCallRefused(f"step.task({name!r}): {error}") from None
        options = {"retries": retries, "retry": retry, "timeout": calls.duration_ms(timeout), "throttling": throttling}
        return self._typed(name, calls.CELERY_TASK, config, options)

    def parallel(self, *branches: Any, return_exceptions: bool = False) -> Any:
        """The values of all branches, in their order; they run side by side, or one after the other where all of them
        take some milliseconds only. In a sync flow a branch is a function that calls tools of `step`, in an async one a
        coroutine of theirs.

        The first failure is raised once the first step of each branch has begun; `return_exceptions` puts it in its
        place instead.
        """
        calls.check_branches(branches, is_async=self._driver.is_async)
        return self._driver.parallel(branches, return_exceptions=return_exceptions)

    def map(
        self,
        name: str,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        parallelism: int | None = None,
        return_exceptions: bool = False,
        retries: int | None = None,
        retry: str | Mapping[str, Any] | None = None,
        type: str = "python",  # noqa: A002
        timeout: Duration | None = None,
        throttling: Mapping[str, Any] | None = None,
    ) -> Any:
        """What the function returns for each item, in their order: a step for each, at most `parallelism` at once.

        With `parallelism` no item begins after one has failed, unless failures take their places
        (`return_exceptions`).
        """
        if parallelism is not None and parallelism < 1:
            raise StepCallRefused(f"step.map({name!r}): parallelism is at least 1, not {parallelism}")
        options = calls.options_of(
            type, timeout=calls.duration_ms(timeout), retries=retries, retry=retry, throttling=throttling
        )
        made = [calls.function_call(name, function, (item,), {}, options) for item in items]
        return self._driver.map(made, parallelism=parallelism, return_exceptions=return_exceptions)

    # --- waiting ------------------------------------------------------------------------------------------------------

    def sleep(self, name: str, duration: Duration) -> Any:
        """Wait, holding neither a worker nor a permit."""
        return self._typed(name, "delay", {"for": calls.duration_ms(duration)}, value_of=_nothing)

    def sleep_until(self, name: str, when: dt.datetime | str) -> Any:
        """Wait until a time with its zone; one that has passed is no wait."""
        return self._typed(name, "delay", {"until": when}, value_of=_nothing)

    def wait_for_event(
        self,
        name: str,
        event: str,
        *,
        match: str | None = None,
        if_: str | None = None,
        timeout: Duration | None = None,
        lookback: Duration | None = None,
        on_timeout: str | None = None,
    ) -> Any:
        """The next event of this name, as ReceivedEvent; None after `timeout`, or StepFailed (`on_timeout="fail"`).

        `match`: a path that is equal in the event that started the run; `if_`: CEL over `event` and `async`. `lookback`
        reaches as far back as events are kept (retention: 30 days, by a rule for more), since nobody knows it before.
        """
        config = {"event": event, "match": match, "if": if_, "timeout": calls.duration_ms(timeout),
                  "lookback": calls.duration_ms(lookback), "on_timeout": on_timeout}  # fmt: skip
        return self._typed(name, "wait_for_event", config, value_of=_received)

    def wait_for_approval(self, name: str, *, timeout: Duration | None = None, **config: Any) -> Any:
        """A person's decision: `{approved, by, comment, at}`. The fields are those of the step type."""
        return self._typed(name, "wait_for_approval", {**config, "timeout": calls.duration_ms(timeout)})

    def callback_url(self, name: str) -> str:
        """The address that `wait_for_callback` of this name waits for. It is good before that is reached, too."""
        context = self._driver.run.context
        return callback_urls.url_of(context.run_id, calls.check_name(name), self._driver.run.path)

    def wait_for_callback(self, name: str, *, timeout: Duration | None = None, on_timeout: str | None = None) -> Any:
        """The JSON body with which `callback_url(name)` is called, once; None after `timeout`."""
        config = {"timeout": calls.duration_ms(timeout), "on_timeout": on_timeout}
        return self._typed(name, "wait_for_callback", config)

    def wait_for_model(
        self, name: str, queryset: QuerySet[Any], *, timeout: Duration = "7d", poll: Duration = "30s"
    ) -> Any:
        """The primary key of the first row of the queryset, once it has one; None after `timeout`.

        The rows are looked at after each commit in which an instance of a model that the query joins was saved or
        deleted, or a relation changed (at most once a second), in every process that has Headrace installed. What
        `update()` and bulk writes change sends no signal, and models of subqueries are not known: so they are also
        looked at every `poll` (a second at least), in the first seconds more often.
        """
        every_s = max(1.0, (calls.duration_ms(poll) or 0) / 1000)
        call = Call(
            name=calls.check_name(name),
            options=calls.options_of("python"),
            handler=Look(queryset, every_s, (calls.duration_ms(timeout) or 0) / 1000, self._driver.run.around),
            value_of=primary_key,
        )
        return self._driver.call(call)

    # --- other flows --------------------------------------------------------------------------------------------------

    def send_event(
        self,
        name: str,
        event: str | Sequence[Mapping[str, Any]],
        data: Mapping[str, Any] | BaseModel | None = None,
        *,
        user: Mapping[str, Any] | None = None,
    ) -> Any:
        """Send an event, once however often the step is tried. Gives its id.

        `event`: its name; or several events as `[{"name": …, "data": …, "user": …}, …]`, a thousand at most, of which
        all are sent or none. It gives the list of their ids then.
        """
        if isinstance(event, str):
            config = {"name": event, "data": {} if data is None else data, "user": user}
            return self._typed(name, "publish_event", config, value_of=_event_id)
        if data is not None or user is not None:
            raise StepCallRefused(f"step.send_event({name!r}): each event of a list has its own data and user.")
        return self._typed(name, "publish_event", {"events": list(event)}, value_of=_event_ids)

    def invoke(
        self,
        name: str,
        flow: Any,
        data: Any = None,
        *,
        wait: bool = True,
        timeout: Duration | None = None,
        on_timeout: str | None = None,
        on_failure: str | None = None,
        on_cancel: str | None = None,
        priority: str | int | None = None,
    ) -> Any:
        """Run another flow (its id, or the flow itself) and give its output; without `wait`, `{runId}` at once."""
        config = {"flow": getattr(flow, "slug", flow), "data": data, "wait": wait,
                  "timeout": calls.duration_ms(timeout), "on_timeout": on_timeout, "on_failure": on_failure,
                  "on_cancel": on_cancel, "priority": priority}  # fmt: skip
        return self._typed(name, "invoke_flow", config)

    # --- what has no row of its own -----------------------------------------------------------------------------------

    def now(self) -> dt.datetime:
        """The time as the run's journal has it: when the latest step ended that was asked for (or when the run was
        made). The same in every visit."""
        now: dt.datetime = self._driver.run.journal.now
        return now

    def uuid(self) -> UUID:
        """A UUID of this run, the same in every visit: that of the first call, of the second, …"""
        return uuid.uuid5(self.run_id, f"uuid:{self._draw()}")

    def random(self) -> random.Random:
        """A source of random numbers, the same in every visit: that of the first call, of the second, …"""
        return random.Random(f"{self.run_id}:{self._draw()}")

    def _draw(self) -> str:
        run: _Run = self._driver.run
        run.draws[run.branch] += 1
        number = str(run.draws[run.branch])
        return f"{run.branch}:{number}" if run.branch else number

    @property
    def logger(self) -> AttemptLog:
        """The log of the try; in the function of a step, of that one's. While the code goes through steps that have
        ended already, it says nothing."""
        log: AttemptLog = self._driver.run.log
        return log

    def progress(self, percent: float, message: str = "") -> None:
        """Show how far the run is: 0 … 100, and a message."""
        self._driver.run.progress(percent, message)

    def patched(self, name: str) -> Any:
        """Whether the run takes the new way of the code: True for runs that come here for the first time, False for
        those that were beyond this point before the change."""
        run = self._driver.run
        marker = f"{calls.PATCH}{calls.check_name(name)}"
        is_old = run.journal.is_replaying and not (run.branch and run.is_same_code)  # other branches may be replaying
        if is_old and not run.journal.has_next(marker):
            return self._driver.just(False)
        return self._typed(marker, "noop", {"output": True})

    def _typed(
        self,
        name: str,
        type_: str,
        config: Mapping[str, Any],
        options: Mapping[str, Any] | None = None,
        *,
        value_of: Callable[[Any], Any] = lambda value: value,
    ) -> Any:
        checked: CallOptions = calls.options_of(type_, **(options or {}))
        return self._driver.call(calls.typed_call(name, type_, config, checked, value_of=value_of))


def _split_options(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(options of the step, everything else)."""
    names = ("retries", "retry", "throttling")
    options = {name: given[name] for name in names if given.get(name) is not None}
    if given.get("step_timeout") is not None:
        options["timeout"] = calls.duration_ms(given["step_timeout"])
    return options, {name: value for name, value in given.items() if name not in (*names, "step_timeout")}


def _nothing(_: Any) -> None:
    return None


def _received(value: Any) -> payloads.ReceivedEvent | None:
    return payloads.ReceivedEvent.of(value) if value is not None else None


def _event_id(value: Any) -> str:
    return str(value["eventId"])


def _event_ids(value: Any) -> list[str]:
    return [str(id_) for id_ in value["eventIds"]]
