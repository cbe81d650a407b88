"""How a task runs: the OPTIONS of its backend, what its code says with `task_options`, and the flow that follows.

Each option is that of the definition format: `retry`, `timeout` and `throttling` are of the step, the others of the
flow. Nearer ones replace farther ones, whole: of the backend, of the queue, of the code, of the task in the settings.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from workflows.definitions import validate
from workflows.definitions.schema import FlowSpec
from workflows.steps.django_tasks.api import InvalidTaskError

OF_STEP = ("retry", "timeout", "throttling")
OF_FLOW = ("concurrency", "throttle", "timeouts", "idempotency", "singleton", "on_failure", "alert_on_failure")
OPTIONS = (*OF_STEP, *OF_FLOW, "compute")
SETTINGS = ("organization", "queues", "tasks")
ATTRIBUTE = "headrace_options"
STEP_KEY = "task"
SHOWN_IN_SLUG = 80
INPUT_SCHEMA = {
    "type": "object",
    "required": ["args", "kwargs"],
    "additionalProperties": False,
    "properties": {"args": {"type": "array"}, "kwargs": {"type": "object"}, "run_after": {"type": "string"}},
}
F = TypeVar("F")


def task_options(**options: Any) -> Callable[[F], F]:
    """A decorator that says how a task runs on Headrace, above or below `@task`; other backends do not look at it.

    Raises TypeError at once for an option that there is not. What the options hold is checked by `manage.py check`
    for the settings, and here when the task is enqueued for the first time.
    """
    for name in options:
        if name not in OPTIONS:
            raise TypeError(f"task_options({name}=…): there is no such option; there are {', '.join(OPTIONS)}.")

    def decorate(decorated: F) -> F:
        setattr(getattr(decorated, "func", decorated), ATTRIBUTE, options)
        return decorated

    return decorate


@dataclass(frozen=True, kw_only=True)
class TaskSource:
    """What a task's flow is made of: where it is, where it runs, and what its code says."""

    path: str
    backend: str
    queue_name: str
    is_async: bool = False
    own: Mapping[str, Any] = field(default_factory=dict, compare=False)


def slug_of(source: TaskSource) -> str:
    """The slug of the task's flow: legible, and one for each backend, queue and path."""
    legible = re.sub(r"[^a-z0-9_-]+", "-", source.path.lower())[-SHOWN_IN_SLUG:].strip("-_")
    identity = "\0".join((source.backend, source.queue_name, source.path))
    return f"task-{legible}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}"


def flow_of(source: TaskSource, given: Mapping[str, Any]) -> FlowSpec:
    """The checked flow of a task, by the OPTIONS of its backend. Raises InvalidTaskError with all that is wrong."""
    try:
        return validate.parse(_document(source, _merged(source, given)))
    except validate.DefinitionProblems as problems:
        said = "; ".join(f"{_named(problem.path)}: {problem.reason}" for problem in problems.problems)
        raise InvalidTaskError(f"The options of the task {source.path} can't be used: {said}") from None


def problems_of(alias: str, given: Any, queues: frozenset[str]) -> Iterator[str]:
    """What is wrong with the OPTIONS of a backend, each with its place in the settings."""
    place = f"TASKS[{alias!r}]['OPTIONS']"
    if not isinstance(given, Mapping):
        yield f"{place} must be a dict."
        return
    yield from _unknown(given, f"{place}", (*SETTINGS, *OPTIONS))
    if not isinstance(given.get("organization", ""), str):
        yield f"{place}['organization'] must be the slug of an organization."
    nested = {}
    for part in ("queues", "tasks"):
        nested[part] = given.get(part, {})
        if not isinstance(nested[part], Mapping):
            yield f"{place}[{part!r}] must be a dict of dicts."
            nested[part] = {}
        for name, options in nested[part].items():
            if isinstance(options, Mapping):
                yield from _unknown(options, f"{place}[{part!r}][{name!r}]", OPTIONS)
            else:
                yield f"{place}[{part!r}][{name!r}] must be a dict of options."
    for name in nested["queues"]:
        if queues and name not in queues:
            yield f"{place}['queues'][{name!r}]: QUEUES of the backend has no such queue."
    sources = [
        TaskSource(path="some.task", backend=alias, queue_name="default"),
        *(TaskSource(path="some.task", backend=alias, queue_name=str(name)) for name in nested["queues"]),
        *(TaskSource(path=str(path), backend=alias, queue_name="default") for path in nested["tasks"]),
    ]
    yield from _unusable(sources, given, place)


def _unusable(sources: list[TaskSource], given: Mapping[str, Any], place: str) -> Iterator[str]:
    seen = set()
    for source in sources:
        try:
            flow_of(source, given)
        except InvalidTaskError as error:
            said = str(error).partition(" can't be used: ")[2]
            if said not in seen:
                seen.add(said)
                yield f"{place}: {said}"
        except (TypeError, ValueError, AttributeError):
            continue  # its form is wrong, which is said already


def _unknown(options: Mapping[str, Any], place: str, known: tuple[str, ...]) -> Iterator[str]:
    for name in options:
        if name not in known:
            yield f"{place}: there is no option {name!r}; there are {', '.join(known)}."


def _merged(source: TaskSource, given: Mapping[str, Any]) -> dict[str, Any]:
    of_backend = {name: value for name, value in given.items() if name in OPTIONS}
    of_queue = given.get("queues", {}).get(source.queue_name, {})
    of_task = given.get("tasks", {}).get(source.path, {})
    return {**of_backend, **of_queue, **source.own, **of_task}


def _document(source: TaskSource, options: Mapping[str, Any]) -> dict[str, Any]:
    compute = bool(options.get("compute", False))
    config = {"task": source.path, "backend": source.backend, "queue_name": source.queue_name}
    if source.is_async and not compute:
        config["asynchronous"] = True  # type: ignore[assignment]
    where = [f"queue {source.queue_name}"] if source.queue_name != "default" else []
    where += [f"backend {source.backend}"] if source.backend != "default" else []
    name = f"Task {source.path}" + (f" ({', '.join(where)})" if where else "")
    step = {"id": STEP_KEY, "type": "django_compute_task" if compute else "django_task", "config": config}
    return {
        "flow": slug_of(source),
        "name": name if len(name) <= 200 else f"{name[:199]}…",
        "description": "Made by the backend of django.tasks. Its options are in the settings and at the task.",
        "input_schema": INPUT_SCHEMA,
        **{option: options[option] for option in OF_FLOW if options.get(option) is not None},
        "steps": [{**step, **{option: options[option] for option in OF_STEP if options.get(option) is not None}}],
    }


def _named(path: str) -> str:
    """The option that a path in the definition is about."""
    return path.removeprefix("steps[0].")
