"""Payloads of rows that come back from an export: stored as their organization stores payloads now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from workflows.models import Attempt, Event, FanOut, Item, Run, StepRun
from workflows.models.payload_fields import PayloadField, PayloadTextField, is_on
from workflows.sealing import envelope
from workflows.sealing.envelope import MARKER, TEXT_MARKER
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
    clear: then it only looks so."""
    wants = is_on(org_id)
    kinds = {row["step_run_id"]: row.get("kind") for row in rows.get("fan_out", ())}
    for kind, model in _MODELS.items():
        columns = [each for each in model._meta.concrete_fields if isinstance(each, PayloadField | PayloadTextField)]
        for row in rows.get(kind, ()):
            facts = {**row, "org_id": org_id, "kind": kinds.get(row.get("container_id"))}
            for column in columns:
                name = column.name
                value = row.get(name)
                if value is None:
                    continue
                if isinstance(column, PayloadTextField):
                    row[name] = _text(str(value), wants=wants, is_clear=is_clear)
                elif MARKER in json.dumps(value):
                    row[name] = sealed(column, facts, value) if is_clear else value
                elif wants:
                    row[name] = sealed(column, facts, value)


def _text(text: str, *, wants: bool, is_clear: bool) -> str:
    if TEXT_MARKER in text:
        return envelope.seal_text(text) if is_clear else text
    return envelope.seal_text(text) if text and wants else text
