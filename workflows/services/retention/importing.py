"""Bringing runs back from an export: as ended history, which never executes. Bringing it back again changes nothing."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

from django.apps import apps
from django.db import connection, transaction
from django.db.models import F, Field, Value
from django.utils import timezone

from workflows.definitions import document
from workflows.edge.unavailable import is_database_away
from workflows.engine.retention import history
from workflows.engine.state.transitions import history as transitions
from workflows.errors import EncryptionKeyMissing, InvalidInput
from workflows.models import FlowVersion, ImportedRun, Organization, PrunedCount, PrunedRun
from workflows.models.flow import Flow
from workflows.models.retention import MAX_DAYS, MIN_DAYS
from workflows.models.run import ENDED_STEP, LIVE_RUN
from workflows.services.retention import payload_rows
from workflows.services.retention.exporting import CLEAR, DAMAGED, FORMAT, HISTORY_TABLES, MAX_LINE_BYTES, VERSION

ROWS_AT_ONCE = 500
KEEP_DAYS = 30.0
Row: TypeAlias = dict[str, Any]


class ImportRefused(InvalidInput):
    """The file can't be brought back."""


@dataclass(kw_only=True)
class Imported:
    """What an import did: runs that came back, those that were there, rows by kind, whether a page had no end."""

    runs: int = 0
    known: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    is_cut_off: bool = False


@dataclass(kw_only=True)
class _Page:
    """A page of an export: whole runs with all that belongs to them."""

    runs: frozenset[str]
    rows: dict[str, list[Row]]
    is_clear: bool = False
    """Nothing in it is sealed, whatever it looks like."""


def import_runs(
    organization: Organization,
    path: Path,
    *,
    keep_days: float = KEEP_DAYS,
    tell: Callable[[Imported], None] = lambda _: None,
) -> Imported:
    """Bring back the runs of a file that `prune --export` wrote, page by page, each in one transaction.

    They are kept for `keep_days` from now on, and then deleted as others are. A page without its end, at the end of the
    file or before another page, is left out: its runs were not deleted by it. Raises ImportRefused for a file of
    another kind or organization, one that is damaged (the pages before the damage are back then), a run that has not
    ended, or a flow that there is not; OSError where it can't be read.
    """
    if not MIN_DAYS <= keep_days <= MAX_DAYS:
        raise InvalidInput(f"keep-days: {keep_days:g} is out of range; use {MIN_DAYS:.4f} (an hour) … {MAX_DAYS:g}.")
    done = Imported()
    for page in _pages(path, done):
        try:
            _bring_back(organization, page, keep_days, done)
        except (ValueError, TypeError, KeyError) as error:
            raise ImportRefused(f"{path.name}: a row can't be read: {error}") from None
        except EncryptionKeyMissing as error:
            raise ImportRefused(f"{path.name}: a row is encrypted in part, and can't be as a whole: {error}") from None
        except Exception as error:
            if is_database_away(error) or isinstance(error, InvalidInput):
                raise
            raise ImportRefused(
                f"{path.name}: the database refuses a row: {str(error).partition(chr(10))[0]}"
            ) from error
        tell(done)
    return done


def _pages(path: Path, done: Imported) -> Iterator[_Page]:
    with gzip.open(path, "rb") as file:
        page: _Page | None = None
        number = 0
        while True:
            try:
                line = file.readline(MAX_LINE_BYTES)
                value = json.loads(line) if line else None
            except (EOFError, *DAMAGED) as error:
                if number == 0:
                    raise ImportRefused(f"{path.name} is no export of runs: {error}") from None
                if isinstance(error, DAMAGED):
                    raise ImportRefused(
                        f"{path.name} is damaged after {done.runs + done.known:,} runs ({error}). These are there; the "
                        "others were deleted after they had been written: take them from another copy of the file."
                    ) from None
                done.is_cut_off = True
                return
            if value is None:
                done.is_cut_off |= page is not None
                return
            number += 1
            if page is not None and isinstance(value, dict) and "format" in value:
                page, done.is_cut_off = None, True  # its export failed, and went on with a page of its own
            page = _read(path, value, page)
            if "end" in value:
                yield page
                page = None


def _read(path: Path, value: Any, page: _Page | None) -> _Page:
    """The page with one more line. Raises ImportRefused."""
    if not isinstance(value, dict):
        raise ImportRefused(f"{path.name} is no export of runs.")
    if page is None:
        if value.get("format") != FORMAT or not isinstance(value.get("runs"), list):
            raise ImportRefused(f"{path.name} is no export of runs.")
        if value.get("version") != VERSION:
            raise ImportRefused(f"{path.name} has the version {value.get('version')!r}; this release reads {VERSION}.")
        return _Page(
            runs=frozenset(map(str, value["runs"])),
            rows={kind: [] for kind in HISTORY_TABLES},
            is_clear=value.get(CLEAR) is True,
        )
    if "end" in value:
        counts = {kind: len(rows) for kind, rows in page.rows.items() if rows}
        if counts != value["end"]:
            raise ImportRefused(f"{path.name}: a page has {counts}, and says {value['end']}: it was changed.")
        return page
    if value.get("kind") not in HISTORY_TABLES or not isinstance(value.get("row"), dict):
        raise ImportRefused(f"{path.name}: a line is no row of a table that is exported.")
    page.rows[value["kind"]].append(value["row"])
    return page


def _bring_back(organization: Organization, page: _Page, keep_days: float, done: Imported) -> None:
    _check(organization, page)
    payload_rows.seal(page.rows, organization.id, is_clear=page.is_clear)
    ids = [UUID(each) for each in page.runs]
    while PrunedRun.objects.filter(run_id__in=ids).exists():
        history.delete_remains(ids, ROWS_AT_ONCE)  # what is left of them is deleted before they come back
    now = timezone.now()
    with transaction.atomic():
        _insert_versions(page)
        _insert("event", page.rows["event"])
        new = {str(id_) for id_ in transitions.insert_runs([_whole("run", row) for row in page.rows["run"]])}
        steps = [row for row in page.rows["step_run"] if row["run_id"] in new]
        for first in range(0, len(steps), ROWS_AT_ONCE):
            transitions.insert_steps([_whole("step_run", row) for row in steps[first : first + ROWS_AT_ONCE]])
        containers = {row["step_run_id"] for row in page.rows["fan_out"] if row["run_id"] in new}
        for kind in ("attempt", "fan_out", "item"):
            _insert(kind, [r for r in page.rows[kind] if r.get("run_id") in new or r.get("container_id") in containers])
        kept_until = now + dt.timedelta(days=keep_days)
        ImportedRun.objects.bulk_create(
            [ImportedRun(run_id=UUID(id_), org_id=organization.id, kept_until=kept_until) for id_ in sorted(new)],
            update_conflicts=True, unique_fields=["run_id"], update_fields=["kept_until"],
        )  # fmt: skip
        _count_again([row for row in page.rows["run"] if row["id"] in new])
    done.runs += len(new)
    done.known += len(page.runs) - len(new)
    done.rows.update({kind: len(rows) for kind, rows in page.rows.items() if rows})


def _check(organization: Organization, page: _Page) -> None:
    """Raises ImportRefused for what does not belong to the organization and its runs, or has not ended."""
    flows = {str(id_) for id_ in Flow.objects.filter(organization=organization).values_list("id", flat=True)}
    if any(row["org_id"] != str(organization.id) for row in page.rows["run"]):
        raise ImportRefused(f"A run belongs to another organization than {organization.slug}.")
    for kind, rows in page.rows.items():
        for row in rows:
            if row.get("org_id", str(organization.id)) != str(organization.id):
                raise ImportRefused(f"A {kind} belongs to another organization than {organization.slug}.")
            if row.get("run_id", next(iter(page.runs), "")) not in page.runs:
                raise ImportRefused(f"A {kind} belongs to no run of its page.")
            if row.get("flow_id") is not None and row["flow_id"] not in flows:
                raise ImportRefused(f"There is no flow {row['flow_id']} in {organization.slug}: publish it first.")
    versions = {row["version_id"] for row in page.rows["run"]}
    containers = {row["step_run_id"] for row in page.rows["fan_out"]}
    for kind, column, known in (
        ("version", "id", versions), ("step", "version_id", versions), ("discovered_step", "version_id", versions),
        ("step_run", "version_id", versions), ("item", "container_id", containers),
    ):  # fmt: skip
        if any(row[column] not in known for row in page.rows[kind]):
            raise ImportRefused(f"A {kind} belongs to no run of its page.")
    for row in page.rows["run"]:
        if row["id"] not in page.runs or row["status"] in LIVE_RUN or row["ended_at"] is None:
            raise ImportRefused(f"The run {row['id']} has not ended: only history can be brought back.")
        row.update(follow_up=False, gather_key="", singleton_key="", timeout_at=None)
    for row in page.rows["step_run"]:
        if row["status"] not in ENDED_STEP:
            raise ImportRefused(f"The step run {row['id']} has not ended: only history can be brought back.")
        row.update(lease_token=None, lease_until=None, wake_at=None, waiting_for="")
    for row in page.rows["event"]:
        row["matched_at"] = row["matched_at"] or row["received_at"]  # it starts nothing again
    for row in page.rows["fan_out"]:
        row["concluded"] = True
    for row in page.rows["version"]:
        if document.checksum_of(row["definition"]) != row["checksum"]:
            raise ImportRefused(f"The version {row['id']} is not what was published: its checksum differs.")


def _insert_versions(page: _Page) -> None:
    """Those that are not here any more, with their steps. Raises ImportRefused for one that is not in the file."""
    wanted = {UUID(row["version_id"]) for row in page.rows["run"]}
    missing = {str(id_) for id_ in wanted - set(_versions_here(wanted))}
    versions = [row for row in page.rows["version"] if row["id"] in missing]
    _insert("version", [{**row, "published_at": None} for row in versions])  # once it is published, it takes no steps
    for kind in ("step", "discovered_step"):
        _insert(kind, [row for row in page.rows[kind] if row["version_id"] in missing])
    for row in versions:
        FlowVersion.objects.filter(id=row["id"]).update(published_at=row["published_at"])
    lacking = wanted - set(_versions_here(wanted))
    if lacking:
        raise ImportRefused(f"The version {min(lacking)} of a run is neither here nor in the file.")


def _versions_here(ids: Collection[UUID]) -> list[UUID]:
    return list(FlowVersion.objects.filter(id__in=ids).values_list("id", flat=True))


def _insert(kind: str, rows: Sequence[Row]) -> None:
    """Those that are there already stay as they are."""
    name = HISTORY_TABLES[kind].name
    for first in range(0, len(rows), ROWS_AT_ONCE):
        page = json.dumps([_whole(kind, row) for row in rows[first : first + ROWS_AT_ONCE]])
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {name} SELECT r.* FROM jsonb_populate_recordset(NULL::{name}, %s::jsonb) r"
                " ON CONFLICT DO NOTHING",
                [page],
            )


def _whole(kind: str, row: Mapping[str, Any]) -> Row:
    """The row with the columns that its table has got since, at their defaults."""
    return {**_defaults(HISTORY_TABLES[kind].name), **row}


def _defaults(table: str) -> Row:
    model = next(model for model in apps.get_models() if model._meta.db_table == table)
    columns = {column.column: _default(column) for column in model._meta.concrete_fields if not column.primary_key}
    return {str(name): value for name, value in columns.items() if value is not None}


def _default(column: Field[Any, Any]) -> Any:
    """As JSON; None where there is none that is a plain value."""
    given = getattr(column, "db_default", None)
    value = given.value if isinstance(given, Value) else given
    if not isinstance(value, bool | int | float | str):
        value = column.get_default() if column.has_default() else None
    return value if isinstance(value, bool | int | float | str | dict | list) else None


def _count_again(rows: Sequence[Row]) -> None:
    """The statistics count what is back itself."""
    minutes: Counter[tuple[str, str, dt.datetime]] = Counter()
    for row in rows:
        at = dt.datetime.fromisoformat(row["ended_at"]).replace(second=0, microsecond=0)
        minutes[row["org_id"], row["status"], at] += 1
    for (org_id, status, minute), number in sorted(minutes.items()):
        counted = PrunedCount.objects.filter(org_id=org_id, status=status, minute=minute)
        counted.filter(runs__lte=number).delete()
        counted.update(runs=F("runs") - number)
