"""Payloads on their way into the database: sealed where their organization wants it, or where they look sealed.

Most take JSON text that can be stored, and give JSON text that is stored: an organization that does not want it costs a
look at a set, and one for `MARKER`. `shaped` and `items` take values, and serialise them for that look. What is read is
opened by the connections (`database`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from workflows.engine.sql import perform as sql
from workflows.sealing import envelope, shapes, switch
from workflows.sealing.envelope import TEXT_MARKER, has_marker
from workflows.sealing.shapes import Shape


def is_on(org_id: UUID) -> bool:
    """Whether an organization's payloads are to be sealed."""
    return switch.known().is_on(org_id, _look)


def is_off_for_all() -> bool:
    """Whether no organization wants it."""
    return switch.known().is_off_for_all(_look)


def look_again() -> None:
    """Look beside the work, so that no step has to wait for it."""
    switch.known().look_again(_look)


def _look() -> Iterable[UUID]:
    return [row.id for row in sql.sealing_organizations()]


def is_wanted(text: str, org_id: UUID) -> bool:
    """Whether JSON text of an organization has to be sealed."""
    return is_on(org_id) or has_marker(text)


def value(text: str, org_id: UUID) -> str:
    """A payload as one sealed value."""
    return envelope.seal_json(text) if is_wanted(text, org_id) else text


def run_input(text: str, org_id: UUID) -> str:
    """The input of a run."""
    if not is_wanted(text, org_id):
        return text
    return _shaped(text, shapes.run_input) if text.startswith('{"events":') else envelope.seal_json(text)


def elements(text: str, org_id: UUID) -> str:
    """An array of which each element is sealed by itself: the events of a batch."""
    if not is_wanted(text, org_id):
        return text
    return _dumps([envelope.seal_value(element) for element in json.loads(text)])


def output(text: str | None, org_id: UUID, step_type: str) -> str | None:
    """The output of a step."""
    if text is None or not is_wanted(text, org_id):
        return text
    if step_type in {"wait_for_event", "conditional"}:
        return _shaped(text, lambda found: shapes.output(found, step_type))
    return envelope.seal_json(text)


def maybe(text: str | None, org_id: UUID) -> str | None:
    """A payload, where there is one."""
    return None if text is None else value(text, org_id)


def error(text: str | None, org_id: UUID) -> str | None:
    """An error, where there is one."""
    return text if text is None or not is_wanted(text, org_id) else _shaped(text, shapes.error)


def logs(text: str | None, org_id: UUID) -> str | None:
    """The log lines of a try, where there are any."""
    return text if text is None or not is_wanted(text, org_id) else _shaped(text, shapes.logs)


def shaped(found: Any, org_id: UUID, shape: Shape) -> Any:
    """A JSON value that becomes a part of a statement's parameter."""
    return shape(found) if is_on(org_id) or has_marker(_dumps(found)) else found


def items(values: Sequence[Any], org_id: UUID, *, are_parts: bool) -> list[Any]:
    """The values of the items of a container; `are_parts`: of a batch."""
    if not is_on(org_id) and not has_marker(_dumps(values)):
        return list(values)
    return [shapes.item(found, is_part=are_parts, owner=org_id) for found in values]


def plain_text(text: str, org_id: UUID) -> str:
    """A text of a column of its own that may quote a payload."""
    return envelope.seal_text(text) if text and (is_on(org_id) or TEXT_MARKER in text) else text


def _shaped(text: str, shape: Shape) -> str:
    return _dumps(shape(json.loads(text)))


def _dumps(found: Any) -> str:
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))
