"""Payloads of rows that come back from an export: stored as their organization stores payloads now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import UUID

from workflows.models import Attempt, Event, FanOut, Item, Run, StepRun
from workflows.models.payload_fields import PayloadField, PayloadTextField, is_on
from workflows.sealing import envelope
from workflows.sealing.envelope import TEXT_MARKER
from workflows.services.access.payloads import sealed

_MODELS = {"event": Event, "run": Run, "step_run": StepRun, "attempt": Attempt, "fan_out": FanOut, "item": Item}


def columns_of(kind: str) -> list[tuple[str, bool]]:
    """The columns of a kind of row that hold payloads; and whether they are text."""
    model = _MODELS.get(kind)
    found = model._meta.concrete_fields if model is not None else ()
    return [(each.name, isinstance(each, PayloadTextField)) for each in found
            if isinstance(each, PayloadField | PayloadTextField)]  # fmt: skip


def seal(rows: Mapping[str, list[dict[str, Any]]], org_id: UUID, *, is_clear: bool) -> None:
    """Seal what has to be, in the rows of a page. What is sealed in the file stays as it is, unless the file is in
    clear: then it only looks so. Raises EncryptionKeyMissing."""
    wants = is_on(org_id)
    kinds = {row["step_run_id"]: row.get("kind") for row in rows.get("fan_out", ())}
    for kind, model in _MODELS.items():
        columns = [each for each in model._meta.concrete_fields if isinstance(each, PayloadField | PayloadTextField)]
        for row in rows.get(kind, ()):
            facts = {**row, "org_id": org_id, "kind": kinds.get(row.get("container_id"))}
            for column in columns:
                if (value := row.get(column.name)) is not None:
                    stored = _text if isinstance(column, PayloadTextField) else partial(_value, column, facts)
                    row[column.name] = stored(value, wants=wants, is_clear=is_clear)


def _text(value: Any, *, wants: bool, is_clear: bool) -> str:
    text = str(value)
    if is_clear:
        return envelope.seal_text(text) if text and (wants or TEXT_MARKER in text) else text
    if not wants or envelope.is_sealed_text(text):
        return text
    opened = envelope.open_text(text)
    envelope.check_open(opened)
    return envelope.seal_text(opened) if opened else opened


def _value(column: PayloadField, facts: Mapping[str, Any], value: Any, *, wants: bool, is_clear: bool) -> Any:
    """Of a value of which parts are sealed, as of a batch that was switched meanwhile, the other parts are in clear: it
    is sealed anew, unless it has its form already, under whichever keys."""
    text = json.dumps(value)
    if is_clear:
        return sealed(column, facts, value) if wants or envelope.has_marker(text) else value
    if not wants:
        return value
    opened = envelope.loads(text)
    new = sealed(column, facts, opened)
    if envelope.form(text, with_keys=False) == envelope.form(json.dumps(new), with_keys=False):
        return value
    envelope.check_open(opened)
    return new
