"""What of a payload is sealed, by its place. The rest stays readable for SQL, and for lists.

| place | in clear |
|---|---|
| input of a run | nothing; of a batch each event is sealed by itself, since SQL adds events to it |
| output of a step | nothing; of `wait_for_event` the event's `id`, of `conditional` the keys of the steps in `then` |
| errors | category, names of classes, the key of the step, whether and when it is tried again |
| log lines, progress | time, level, percent |
| items of containers | nothing; each element of a batch by itself, since SQL halves batches; equal ones look equal |
| options of a wait | what it does at its end; of an approval not its title, message, details, approvers |
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

from workflows.sealing.envelope import NAME, TEXT_MARKER, seal_text, seal_value

Shape = Callable[[Any], Any]
_OPEN_OF_ERROR = frozenset({"category", "name", "classPath", "step", "final", "retry_after_s"})
_OPEN_OF_OUTPUT = {"wait_for_event": frozenset({"id"}), "conditional": frozenset({"then"})}
_OPEN_OF_LINE = frozenset({"at", "level"})
_OPEN_OF_KEPT = frozenset({"try"})
_OPEN_OF_PROGRESS = frozenset({"at", "percent"})
_OPEN_OF_OPTIONS = frozenset({"on_timeout", "on_failure", "on_reject", "on_cancel", "callback", "remind_ms"})
_PLAIN = re.compile(r"[^${}]*")


def whole(value: Any) -> Any:
    """One sealed value."""
    return seal_value(value)


def all_but(value: Any, names: frozenset[str]) -> Any:
    """An object of which these members stay in clear, unless they look sealed."""
    if not isinstance(value, dict) or NAME in value:
        return seal_value(value)
    return {name: item if name in names and _is_plain(item) else _member(item) for name, item in value.items()}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str) and _PLAIN.fullmatch(item) for item in value)
    return not isinstance(value, str | dict) or (isinstance(value, str) and TEXT_MARKER not in value)


def _member(value: Any) -> Any:
    """A member of an object: a text stays a text. What is empty, and a switch, has nothing to hide."""
    if isinstance(value, str):
        return seal_text(value) if value else value
    return value if value is None or isinstance(value, bool) or value in ([], {}) else seal_value(value)


def run_input(value: Any) -> Any:
    """The input of a run."""
    if isinstance(value, dict) and value.keys() == {"events"} and isinstance(value["events"], list):
        return {"events": [seal_value(event) for event in value["events"]]}
    return seal_value(value)


def output(value: Any, step_type: str) -> Any:
    """The output of a step of a type."""
    return all_but(value, _OPEN_OF_OUTPUT[step_type]) if step_type in _OPEN_OF_OUTPUT else seal_value(value)


def error(value: Any) -> Any:
    """The error of a try, an item or a run."""
    return all_but(value, _OPEN_OF_ERROR)


def logs(value: Any) -> Any:
    """The log lines of a try."""
    return [all_but(line, _OPEN_OF_LINE) for line in value] if isinstance(value, list) else seal_value(value)


def kept_logs(value: Any) -> Any:
    """The log lines of a step that waits: {try, lines}."""
    if not isinstance(value, dict) or NAME in value or "lines" not in value:
        return all_but(value, _OPEN_OF_KEPT)
    return {**all_but({**value, "lines": []}, _OPEN_OF_KEPT), "lines": logs(value["lines"])}


def progress(value: Any) -> Any:
    """What a handler has reported: {percent, message, at}."""
    return all_but(value, _OPEN_OF_PROGRESS)


def wait_options(value: Any) -> Any:
    """What the end of a wait depends on."""
    return all_but(value, _OPEN_OF_OPTIONS)


def item(value: Any, *, is_part: bool, owner: UUID | None) -> Any:
    """The value of an item; `is_part`: of a batch, a list of elements. A resumed run finds it again by comparing; one
    whose container is gone (no `owner`) is looked for by nobody."""
    if is_part and isinstance(value, list):
        return [seal_value(element, stable_for=owner) for element in value]
    return seal_value(value, stable_for=owner)


def task_end(value: Any) -> Any:
    """What a Celery task came to: {state, result} or {state, error}."""
    shaped = all_but(value, frozenset({"state"}))
    if isinstance(value, dict) and NAME not in value and isinstance(value.get("error"), dict):
        shaped["error"] = error(value["error"])
    return shaped
