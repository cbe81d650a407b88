"""Rows of an export that come into an organization that encrypts: no column keeps a payload, or a part of one, in clear."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tests.integration.access.marked import have, have_all, places_of
from tests.integration.retention.history import LONG_AGO, aged, old_event
from tests.integration.retention.history import ended as ended_run
from workflows.models import Attempt, Event, FanOut, Item, Organization, Run, StepRun
from workflows.sealing.envelope import key_names, seal_text, seal_value
from workflows.services.access import payloads
from workflows.services.retention import payload_rows, pruning
from workflows.services.retention.importing import ImportRefused, import_runs

pytestmark = pytest.mark.usefixtures("published")
TABLES = {"event": Event, "run": Run, "step_run": StepRun, "attempt": Attempt, "fan_out": FanOut, "item": Item}
LINE = {"at": "2026-11-26T10:00:00Z", "level": "info", "message": "MARK", "more": "MARK"}
LINES = [LINE, LINE]
VALUES: dict[str, Any] = {
    "run.input": {"events": [{"n": "MARK"}, {"n": "MARK", "more": ["MARK"]}]},
    "step_run.kept_logs": {"try": 1, "lines": LINES, "more": "MARK"},
    "attempt.logs": LINES,
    "item.value": ["MARK", {"n": "MARK"}],
}
OTHERWISE = {"category": "business", "id": "1", "message": "MARK", "more": {"n": "MARK", "lines": ["MARK"]}}


def _columns() -> list[tuple[str, str, bool]]:
    return [(kind, name, is_text) for kind in TABLES for name, is_text in payload_rows.columns_of(kind)]


def _in_part(value: Any) -> Any:
    """The last member, or the last element, is sealed, and the others are in clear."""
    if isinstance(value, dict) and len(value) == 1:
        return {name: _in_part(item) for name, item in value.items()}
    if isinstance(value, list):
        return [*value[:-1], seal_value(value[-1])]
    *first, (name, last) = value.items()
    return {**dict(first), name: seal_value(last)}


def _history(org: Organization, mark: str, *, in_part: bool) -> uuid.UUID:
    """A run that ended long ago, with the mark in every column of a payload."""
    event_id = old_event(org)
    run_id = ended_run(org)
    Run.objects.filter(id=run_id).update(event_id=event_id)
    step = StepRun.objects.get(run_id=run_id)
    Attempt.objects.get_or_create(run_id=run_id, step_run_id=step.id, number=1, defaults={
        "org_id": org.id, "status": "completed", "ended_at": timezone.now() - LONG_AGO})  # fmt: skip
    FanOut.objects.create(step_run_id=step.id, org_id=org.id, run_id=run_id, kind="batch", total=1, parallelism=1,
                          body_sinks=1, changed_at=timezone.now(), concluded=True, ended=1)  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {Item._meta.db_table} (container_id, index, position, size, value, status, sinks_left)"
            " VALUES (%s, 0, 0, 2, '1', 'completed', 0)",
            [step.id],
        )
    places = {"event": ("id", event_id), "run": ("id", run_id), "step_run": ("run_id", run_id),
              "attempt": ("run_id", run_id), "item": ("container_id", step.id)}  # fmt: skip
    for kind, name, is_text in _columns():
        value = json.loads(json.dumps(VALUES.get(f"{kind}.{name}", OTHERWISE)).replace("MARK", mark))
        stored = (f"{mark} {seal_text(mark)}" if in_part else mark) if is_text else json.dumps(
            _in_part(value) if in_part else value)  # fmt: skip
        column, id_ = places[kind]
        with connection.cursor() as cursor:
            cursor.execute(
                f'UPDATE {TABLES[kind]._meta.db_table} SET "{name}" = %s WHERE "{column}" = %s', [stored, id_]
            )
    return aged(run_id)


def _read(run_id: uuid.UUID) -> list[Any]:
    """What the models show of each of these columns."""
    run = Run.objects.get(id=run_id)
    step = StepRun.objects.get(run_id=run_id)
    assert run.event_id
    rows = {"event": Event.objects.get(id=run.event_id), "run": run, "step_run": step,
            "attempt": Attempt.objects.get(run_id=run_id), "item": Item.objects.get(container_id=step.id)}  # fmt: skip
    return [getattr(rows[kind], name) for kind, name, _ in _columns()]


def _exported(org: Organization, folder: Path, *, clear: bool) -> Path:
    pruning.prune(
        pruning.Request(organizations=[org], subjects=["completed"], older_than="1h", export=folder, clear=clear)
    )
    pruning.prune(pruning.Request(organizations=[org], subjects=["events"], older_than="1h"))
    assert not Event.objects.filter(org_id=org.id).exists()
    (file,) = folder.iterdir()
    return file


@pytest.mark.parametrize("clear", [False, True], ids=["as stored", "in clear"])
@pytest.mark.parametrize("in_part", [False, True], ids=["whole", "in part"])
def test_every_column_comes_back_encrypted_as_a_whole(
    clear: bool, in_part: bool, org: Organization, mark: str, tmp_path: Path
) -> None:
    run_id = _history(org, mark, in_part=in_part)
    assert places_of(mark) >= {f"{TABLES[kind]._meta.db_table}.{name}" for kind, name, _ in _columns()}
    before = _read(run_id)
    file = _exported(org, tmp_path, clear=clear)
    assert places_of(mark) == set()
    payloads.switch_to(org, on=True)
    import_runs(org, file)
    payloads.switch_to(org, on=False)
    assert places_of(mark) == set()
    assert _read(run_id) == before


def test_a_key_that_is_away_is_named_where_a_part_would_stay_in_clear(
    org: Organization, mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is encrypted as a whole comes back without its key."""
    (name,) = key_names(seal_text(mark))
    run_id = _history(org, mark, in_part=True)
    before = _read(run_id)
    (tmp_path / "part").mkdir()
    (tmp_path / "whole").mkdir()
    mixed = _exported(org, tmp_path / "part", clear=False)
    payloads.switch_to(org, on=True)
    have(monkeypatch, "another")
    with pytest.raises(ImportRefused, match=name):
        import_runs(org, mixed)
    assert places_of(mark) == set()
    have_all(monkeypatch)
    import_runs(org, mixed)
    _forget_import(run_id)
    whole = _exported(org, tmp_path / "whole", clear=False)
    have(monkeypatch, "another")
    import_runs(org, whole)
    have_all(monkeypatch)
    payloads.switch_to(org, on=False)
    assert _read(run_id) == before


def _forget_import(run_id: uuid.UUID) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM headrace_workflows_importedrun WHERE run_id = %s", [run_id])
