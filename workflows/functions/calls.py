"""One call of a step tool: what is to be performed, under which name, and how it is retried and limited."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import inspect
import json
import re
import time
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import FunctionType
from typing import Any

from pydantic import BaseModel, ValidationError

from throttling.errors import ThrottlingError
from workflows.definitions.discovered import CallOptions
from workflows.duration import parse_ms
from workflows.engine.pipeline.perform import TOO_LATE
from workflows.errors import DeadlinePassed
from workflows.functions import payloads
from workflows.functions.failures import StepCallRefused
from workflows.functions.flows import MAIN
from workflows.steps.context import StepContext
from workflows.steps.registry import REGISTRY, StepConfig

_NAME = re.compile(r"[^\x00-\x1f\x7f:/\[\]'\"\\]{1,90}")
CELERY_TASK = "celery_task"
PATCH = "patched "
"""Begins the names of markers of `step.patched`."""

Duration = str | int | dt.timedelta
"""`"10m"`, milliseconds, or a timedelta."""


def duration_ms(value: Duration | None) -> int | None:
    """Milliseconds. Raises StepCallRefused for what is no duration."""
    return None if value is None else _text_ms(value) if type(value) is str else _ms(value)


@functools.lru_cache(maxsize=1_000)
def _text_ms(value: str) -> int:
    return _ms(value)


def _ms(value: Duration) -> int:
    try:
        return parse_ms(round(value.total_seconds() * 1000) if isinstance(value, dt.timedelta) else value)
    except ValueError as error:
        raise StepCallRefused(str(error)) from None


def _same(value: Any) -> Any:
    return value


@dataclass(kw_only=True, slots=True, eq=False)
class Call:
    """A step that the code asks for. `handler` performs it; `value_of` makes its value of the stored output.

    One is made at each call, those that are only replayed included: a frozen one would take five times as long.
    """

    name: str
    options: CallOptions
    handler: Callable[[StepContext], Any]
    value_of: Callable[[Any], Any] = _same
    is_async: bool = False
    is_atomic: bool = False
    is_long: bool = False
    """It waits for something outside, so that no visit performs it itself."""
    deadline: dt.datetime | None = None
    """By which it has to end."""
    config: StepConfig | None = None
    """Of a step type of Headrace."""
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """With which a function of the user's is called."""


@functools.lru_cache(maxsize=4_000)
def check_name(name: Any) -> str:
    """The name of a step. Raises StepCallRefused for one that can't be used."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name != name.strip():
        raise StepCallRefused(
            f"{name!r} is no name of a step: give 1 to 90 characters, without : / [ ] \\ and quotation marks."
        )
    if name == MAIN:
        raise StepCallRefused(f"{MAIN!r} is the name of the flow's function itself: give the step another one.")
    return name


def options_of(
    type_: str,
    *,
    timeout: Any = None,
    retries: int | None = None,
    retry: Any = None,
    throttling: Mapping[str, Any] | None = None,
) -> CallOptions:
    """The options of a call. Raises StepCallRefused for those that can't be."""
    if timeout is retries is retry is throttling is None:
        return _plain_options(type_)
    if throttling is None and type(timeout) in _SIMPLE and type(retries) in _SIMPLE and type(retry) in _SIMPLE:
        return _simple_options(type_, timeout, retries, retry)
    return _made_options(type_, timeout, retries, retry, throttling)


_SIMPLE = frozenset({int, str, type(None)})
"""Types of options by whose values alone options are remembered: replayed code asks for them at each entry."""


@functools.lru_cache(maxsize=4_000)
def _simple_options(type_: str, timeout: int | str | None, retries: int | None, retry: str | None) -> CallOptions:
    return _made_options(type_, timeout, retries, retry, None)


def _made_options(
    type_: str, timeout: Any, retries: int | None, retry: Any, throttling: Mapping[str, Any] | None
) -> CallOptions:
    given: dict[str, Any] = {"type": type_}
    if timeout is not None:
        given["timeout"] = timeout
    if retry is not None:
        given["retry"] = {"preset": retry} if isinstance(retry, str) else dict(retry)
    if retries is not None:
        given["retry"] = {**given.get("retry", {}), "retries": retries}
    if throttling is not None:
        given["throttling"] = dict(throttling)
    try:
        text = json.dumps(given, sort_keys=True)
    except (TypeError, ValueError):
        raise StepCallRefused("The options of a step are plain values: numbers, texts, mappings.") from None
    return _checked_options(text)


@functools.lru_cache(maxsize=1_000)
def _plain_options(type_: str) -> CallOptions:
    return _checked_options(json.dumps({"type": type_}))


@functools.lru_cache(maxsize=4_000)
def _checked_options(text: str) -> CallOptions:
    given = json.loads(text)
    if given["type"] not in REGISTRY or REGISTRY[given["type"]].container:
        raise StepCallRefused(f"There is no step type {given['type']!r}; there are {', '.join(sorted(REGISTRY))}.")
    try:
        return CallOptions.model_validate(given).checked()
    except ValidationError as error:
        raise StepCallRefused(f"The options of the step can't be: {payloads.problems(error)}") from None
    except ThrottlingError as error:
        raise StepCallRefused(f"The options of the step can't be: {error}") from None


def function_call(
    name: str,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    options: CallOptions,
    *,
    output: type[BaseModel] | None = None,
) -> Call:
    """A call that performs a function of the user's."""
    if not callable(function):
        raise StepCallRefused(f"step.run({name!r}): {function!r} can't be called; give a function, then its arguments.")
    model = output or _returned_model(function)
    is_async = _is_async(function)

    if is_async:

        async def perform_async(_: StepContext) -> Any:
            return payloads.plain(await function(*args, **kwargs))

    else:

        def perform(_: StepContext) -> Any:
            value = function(*args, **kwargs)
            if inspect.iscoroutine(value):
                value.close()
                raise StepCallRefused(
                    f"step.run({name!r}): {function!r} gives a coroutine that nobody awaits. Give the async function "
                    "itself and its arguments, not a lambda or a wrapper of it."
                )
            return payloads.plain(value)

    return Call(
        name=check_name(name),
        options=options,
        handler=perform_async if is_async else perform,
        value_of=_same if model is None else functools.partial(payloads.typed, model=model),
        is_async=is_async,
        args=args,
        kwargs=kwargs,
    )


def check_branches(branches: Sequence[Any], *, is_async: bool) -> None:
    """Raises StepCallRefused for what is no branch of a gather, before any of them begins."""
    for branch in branches:
        if callable(branch) or (is_async and inspect.isawaitable(branch)):
            continue
        given = [each for one in branches for each in (one if isinstance(one, list | tuple) else [one])]
        for coroutine in filter(inspect.iscoroutine, given):
            coroutine.close()
        if isinstance(branch, list | tuple):
            raise StepCallRefused("step.parallel takes branches one by one: step.parallel(*branches).")
        wanted = "a coroutine, step.run(…)" if is_async else "a function, lambda: step.run(…)"
        raise StepCallRefused(f"step.parallel: {branch!r:.100} is no branch; give {wanted}.")


def with_deadline(call: Call, deadline: dt.datetime) -> Call:
    """The call, which has to end by then. Raises StepCallRefused for what is no time with its zone."""
    given: object = deadline
    if not isinstance(given, dt.datetime) or given.tzinfo is None:
        raise StepCallRefused(
            f"The deadline of step {call.name!r} is {deadline!r}: give a datetime with its zone, such as "
            "step.now() + timedelta(minutes=5)."
        )
    return replace(call, deadline=deadline)


def handler_of(call: Call) -> Callable[[StepContext], Any]:
    """What performs the call. Where that has a deadline, it raises DeadlinePassed from then on, a try that is under way
    is ended then, and none follows that would begin later."""
    if call.deadline is None:
        return call.handler
    if not call.is_async:

        def perform(context: StepContext) -> Any:
            context.end_by(time.monotonic() + _left_s(call, context))
            return call.handler(context)

        return perform

    async def perform_async(context: StepContext) -> Any:
        left_s = _left_s(call, context)
        context.end_by(time.monotonic() + left_s)
        try:
            async with asyncio.timeout(left_s) as timer:
                return await call.handler(context)
        except TimeoutError:
            if timer.expired():
                raise DeadlinePassed(TOO_LATE) from None
            raise

    return perform_async


def _left_s(call: Call, context: StepContext) -> float:
    assert call.deadline is not None
    left_s = (call.deadline - context.now()).total_seconds()
    if left_s <= 0:
        raise DeadlinePassed(f"The deadline of the step, {call.deadline.isoformat()}, has passed: it was not begun.")
    return left_s


def _is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine. (A plain function says so itself; `inspect` takes ten times as long.)"""
    if isinstance(function, FunctionType) and not hasattr(function, "__wrapped__"):
        return bool(function.__code__.co_flags & inspect.CO_COROUTINE)
    return inspect.iscoroutinefunction(inspect.unwrap(getattr(function, "func", function)))


def _returned_model(function: Callable[..., Any]) -> type[BaseModel] | None:
    """The pydantic model that a function says it returns."""
    if "return" not in getattr(function, "__annotations__", ()):
        return None
    return _annotated_model(function)


@functools.lru_cache(maxsize=4_000)
def _annotated_model(function: Callable[..., Any]) -> type[BaseModel] | None:
    try:
        found = typing.get_type_hints(function).get("return")
    except (NameError, TypeError, AttributeError):
        return None
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def typed_call(
    name: str,
    type_: str,
    config: Mapping[str, Any],
    options: CallOptions | None = None,
    *,
    value_of: Callable[[Any], Any] = _same,
) -> Call:
    """A call that performs a step type of Headrace, with its configuration."""
    step_type = REGISTRY[type_]
    types = tuple(map(type, config.values()))
    try:
        if _PLAIN.issuperset(types) and sum(map(len, filter(_is_text, config.values()))) <= MOST_REMEMBERED:
            checked = _plain_config(type_, tuple(config.items()), types)
        else:
            checked = _checked_config(type_, config)
    except ValidationError as error:
        raise StepCallRefused(f"step {name!r} ({type_}): {payloads.problems(error)}") from None

    def perform(context: StepContext) -> Any:
        return step_type.handler(replace(context, config=checked))

    return Call(
        name=check_name(name),
        options=options or options_of(type_),
        handler=perform,
        value_of=value_of,
        is_async=_is_async(step_type.handler),
        is_long=type_ == CELERY_TASK,
        config=checked,
    )


_PLAIN = frozenset({int, str, bool, float, type(None)})
MOST_REMEMBERED = 1_000
"""Characters of a configuration that is remembered: thousands are, and each may be of another run's data."""


def _is_text(value: Any) -> bool:
    return type(value) is str


@functools.lru_cache(maxsize=4_000)
def _plain_config(type_: str, given: tuple[tuple[str, Any], ...], _: tuple[type[Any], ...]) -> StepConfig:
    """The configuration of plain values, which is frozen. (Their types count: 1, 1.0 and True are equal.)"""
    return _checked_config(type_, dict(given))


def _checked_config(type_: str, config: Mapping[str, Any]) -> StepConfig:
    """Raises ValidationError."""
    given = {field: payloads.plain(value) for field, value in config.items() if value is not None}
    return REGISTRY[type_].config_model.model_validate(given)
