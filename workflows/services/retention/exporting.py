"""Writing runs to a file before they are deleted: gzipped JSON lines, each a row of a table as Postgres gives it.

A page of runs is a member of gzip by itself, ends with a line that counts its rows, is synced to the disk and read back
before the runs are deleted. A page that fails is cut off the file again. So a process that is killed leaves whole
pages, and at most one that is cut off at the end, whose runs are not deleted (`importing` passes it over).
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

import structlog
import uuid6
from django.db import connection

from workflows.errors import EncryptionKeyMissing, InvalidInput
from workflows.sealing import envelope
from workflows.services.retention import payload_rows

log = structlog.get_logger(__name__)
FORMAT = "headrace-history"
VERSION = 1
CLEAR = "clear"
"""In the head of a page: nothing in it is sealed, whatever it looks like."""
ROWS_AT_ONCE = 500
MAX_LINE_BYTES = 64 * 1024 * 1024
"""The longest line that an import reads: a longer row is not exported, and so its run is not deleted."""


@dataclass(frozen=True, kw_only=True)
class HistoryTable:
    """A table of the history: its rows of runs are those that `where` gives (`%(runs)s`: their ids)."""

    kind: str
    name: str
    where: str
    order: str = "id"


_VERSIONS = "SELECT version_id FROM headrace_workflows_run WHERE id = ANY(%(runs)s)"
HISTORY_TABLES: dict[str, HistoryTable] = {
    table.kind: table
    for table in (
        HistoryTable(kind="version", name="headrace_workflows_flowversion", where=f"id IN ({_VERSIONS})"),
        HistoryTable(kind="step", name="headrace_workflows_step", where=f"version_id IN ({_VERSIONS})"),
        HistoryTable(
            kind="discovered_step", name="headrace_workflows_discoveredstep", where=f"version_id IN ({_VERSIONS})"
        ),
        HistoryTable(
            kind="event", name="headrace_workflows_event",
            where="id IN (SELECT event_id FROM headrace_workflows_run WHERE id = ANY(%(runs)s))",
        ),
        HistoryTable(kind="run", name="headrace_workflows_run", where="id = ANY(%(runs)s)"),
        HistoryTable(kind="step_run", name="headrace_workflows_steprun", where="run_id = ANY(%(runs)s)"),
        HistoryTable(kind="attempt", name="headrace_workflows_attempt", where="run_id = ANY(%(runs)s)"),
        HistoryTable(
            kind="fan_out", name="headrace_workflows_fanout", where="run_id = ANY(%(runs)s)", order="step_run_id"
        ),
        HistoryTable(
            kind="item", name="headrace_workflows_item", order="container_id, index",
            where="container_id IN (SELECT step_run_id FROM headrace_workflows_fanout WHERE run_id = ANY(%(runs)s))",
        ),
    )
}  # fmt: skip
"""By the kind that a line names, in the order in which they are brought back."""


class ExportFailed(OSError):
    """What was written can't be read back: nothing of it is deleted."""


class RowTooLarge(InvalidInput):
    """A row of a run is longer than an import reads: the run is neither exported nor deleted."""


class Exporter:
    """A file that pages of runs are appended to."""

    def __init__(self, path: Path, *, clear: bool = False) -> None:
        self.path, self._clear = path, clear
        self.rows: Counter[str] = Counter()
        self._file: BinaryIO = path.open("xb")

    def write(self, run_ids: Sequence[UUID]) -> None:
        """Append these runs with all that belongs to them; they are on the disk when it returns.

        Raises OSError, and RowTooLarge; the file is as it was before then.
        """
        begin = self._file.tell()
        try:
            counts = self._append(run_ids)
            self._verify(begin, counts)
        except BaseException:
            self._cut_off_at(begin)
            raise
        self.rows.update(counts)

    def _append(self, run_ids: Sequence[UUID]) -> Counter[str]:
        counts: Counter[str] = Counter()
        with gzip.GzipFile(fileobj=self._file, mode="wb", mtime=0) as member:
            head = {"format": FORMAT, "version": VERSION, "runs": [str(id_) for id_ in run_ids]}
            member.write(_line({**head, CLEAR: True} if self._clear else head))
            for kind, text in _rows(run_ids):
                member.write(_row_line(kind, _opened(kind, text) if self._clear else text))
                counts[kind] += 1
            member.write(_line({"end": dict(counts)}))
        self._file.flush()
        os.fsync(self._file.fileno())
        return counts

    def _cut_off_at(self, begin: int) -> None:
        """What is still in the buffer is lost with the file object: a full disk takes none of it."""
        with contextlib.suppress(OSError):
            self._file.close()
        os.truncate(self.path, begin)
        self._file = self.path.open("r+b")
        self._file.seek(begin)

    def _verify(self, begin: int, counts: Counter[str]) -> None:
        read = Counter(kind for kind, _ in _read_member(self.path, begin))
        if read != counts or counts["run"] == 0:
            raise ExportFailed(f"{self.path}: {dict(counts)} rows were written, and {dict(read)} are read back.")

    def close(self) -> None:
        self._file.close()


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _opened(kind: str, text: str) -> str:
    """A row whose payloads are in clear, whatever is stored. What its other columns hold only looks sealed. Raises
    EncryptionKeyMissing."""
    if not envelope.looks_sealed(text):
        return text
    row = json.loads(text)
    for name, is_text in payload_rows.columns_of(kind):
        if isinstance(row.get(name), str) and is_text:
            row[name] = envelope.open_text(row[name])
        elif row.get(name) is not None and not is_text:
            row[name] = envelope.loads(json.dumps(row[name]))
        for why in envelope.unopened(row.get(name)):
            raise EncryptionKeyMissing(why)
    return json.dumps(row, ensure_ascii=False)


def _row_line(kind: str, text: str) -> bytes:
    """Raises RowTooLarge."""
    line = b'{"kind": "%s", "row": %s}\n' % (kind.encode(), text.encode())
    if len(line) > MAX_LINE_BYTES:
        raise RowTooLarge(
            f"A {kind} takes {len(line):,} bytes, and {MAX_LINE_BYTES:,} are the most of an export: its run is kept. "
            "Prune without --export where it may go."
        )
    return line


def _rows(run_ids: Sequence[UUID]) -> Iterator[tuple[str, str]]:
    """Kind and row, as JSON text; read page by page, so that a large run takes no memory."""
    for table in HISTORY_TABLES.values():
        with connection.chunked_cursor() as cursor:
            cursor.execute(
                f"SELECT to_jsonb(t)::text FROM {table.name} t WHERE {table.where} ORDER BY {table.order}",
                {"runs": list(run_ids)},
            )
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                yield from ((table.kind, text) for (text,) in rows)


def _read_member(path: Path, begin: int) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as file:
        file.seek(begin)
        with gzip.GzipFile(fileobj=file) as member:
            for line in io.BufferedReader(member):
                found = json.loads(line)
                if "kind" in found:
                    yield found["kind"], found["row"]


@contextlib.contextmanager
def open_in(folder: Path, *, clear: bool = False) -> Iterator[Exporter]:
    """A new file in this folder, which is deleted where nothing was written. `clear`: payloads that are stored
    encrypted are not in the file. Raises InvalidInput for what is no folder."""
    if not folder.is_dir():
        raise InvalidInput(f"export: {str(folder)[:200]!r} is no folder; make it first.")
    exporter = Exporter(folder / f"runs-{uuid6.uuid7()}.jsonl.gz", clear=clear)
    try:
        sync_folder(folder)
        yield exporter
    finally:
        exporter.close()
        if not exporter.rows:
            exporter.path.unlink(missing_ok=True)
        else:
            log.info("runs were exported", file=str(exporter.path), rows=dict(exporter.rows))


def sync_folder(folder: Path) -> None:
    """Have the names of its files on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


DAMAGED = (gzip.BadGzipFile, zlib.error, ValueError)
"""What reading a file raises that was changed, or is something else. One that is cut off raises EOFError."""
