"""What Sentry is told, where `SENTRY_DSN` names a project: each failure for good as an exception, each run that has
ended as a transaction with its tries as spans.

A thread of its own does it, after the commit: the engine never waits for it, and what it can't send is dropped. All
texts come from the database, where secrets are masked already; an event's data is masked here.
"""

from __future__ import annotations

import atexit
import json
import queue
import random
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from django.db import DatabaseError

from workflows import this_process
from workflows.edge import redaction
from workflows.edge.extras import extra
from workflows.engine.sql import telemetry as sql
from workflows.engine.sql.telemetry import ReportedRunsRow
from workflows.engine.state import database, secret_sources
from workflows.engine.state.records import StepFailed
from workflows.engine.worker import ending
from workflows.this_process.configuration import configuration

log = structlog.get_logger(__name__)
MAX_WAITING = 1_000
MAX_SPANS = 1_000
MAX_DATA_CHARACTERS = 16_000
STOP_WITHIN_S = 3.0
_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d{1,9}), in (?P<function>.+)$', re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class _Group:
    """The failures and the ended runs of one recording."""

    failures: tuple[StepFailed, ...]
    ended: tuple[UUID, ...]


class Reporter:
    """One for each process that has something to report; its thread starts with the first of it."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[_Group | None] = queue.Queue(MAX_WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._client: Any = None

    def report(self, failures: Sequence[StepFailed], ended: Sequence[UUID]) -> None:
        """Report these soon; nothing where there is no project to report to, or too much waits already."""
        if not configuration().sentry_dsn:
            return
        rate = configuration().sentry_traces_sample_rate
        traced = tuple(run_id for run_id in ended if rate >= 1 or random.random() < rate)
        if not failures and not traced:
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sentry", daemon=True)
                self._thread.start()
                atexit.register(self.stop)
        try:
            self._waiting.put_nowait(_Group(failures=tuple(failures), ended=traced))
        except queue.Full:
            log.warning("too much waits to be reported to Sentry; this is not", failures=len(failures))

    def stop(self) -> None:
        """Send what waits, for a moment, and end the thread."""
        thread = self._thread
        if thread is not None and thread.is_alive():
            try:
                self._waiting.put_nowait(None)
            except queue.Full:
                return
            thread.join(STOP_WITHIN_S)

    def _run(self) -> None:
        sentry_sdk = extra("sentry_sdk", "sentry")  # large: only where it is wanted
        self._client = sentry_sdk.Client(
            dsn=configuration().sentry_dsn, default_integrations=False, traces_sample_rate=1.0
        )
        while (group := self._waiting.get()) is not None:
            try:
                self._report(group)
            except Exception as error:
                ending.raise_if_ending(error)
                log.warning("Sentry can't be told", error=f"{type(error).__name__}: {error}")
            finally:
                if self._waiting.empty():
                    database.close()
        self._client.close(timeout=STOP_WITHIN_S / 2)

    def _report(self, group: _Group) -> None:
        database.adopt()
        ids = list({failure.run_id for failure in group.failures})
        runs = {row.id: row for row in sql.reported_runs(ids=ids, with_data=True)} if ids else {}
        for failure in group.failures:
            if failure.run_id in runs:
                self._client.capture_event(exception(failure, runs[failure.run_id]))
        if group.ended:
            for row in sql.reported_runs(ids=group.ended, with_data=False):
                self._client.capture_event(transaction(row))


def report(failures: Sequence[StepFailed], ended: Sequence[UUID]) -> None:
    """Report failures and ended runs soon, by this process's reporter."""
    this_process.own(Reporter).report(failures, ended)


def exception(failure: StepFailed, run: ReportedRunsRow) -> dict[str, Any]:
    """A failure for good, as Sentry takes events."""
    error = failure.error
    return {
        "level": "error",
        "platform": "python",
        "logger": "workflows.jobs",
        "transaction": run.slug,
        "exception": {"values": [{"type": error.name, "value": error.message, **_stack(error.traceback)}]},
        "tags": {
            "jobType": run.slug,
            "eventId": str(run.event_id or run.id),
            "step": failure.step_key,
            "stepType": failure.step_type,
            "category": error.category.value,
        },
        "extra": {
            "eventData": _masked(run.org_id, run.input),
            "eventName": run.event_name,
            "runId": str(run.id),
            "attempts": failure.attempts,
            "link": f"{configuration().public_url}/runs/{run.id}/",
            "traceback": error.traceback,
        },
        "contexts": {"trace": {"trace_id": run.id.hex, "span_id": _span_id(failure.step_run_id or run.id)}},
    }


def transaction(run: ReportedRunsRow) -> dict[str, Any]:
    """A run that has ended, as Sentry takes transactions: the run's id is its trace, each try a span of it."""
    root = _span_id(run.id)
    rows = sql.spans_of_run(run=run.id, most=MAX_SPANS)
    return {
        "type": "transaction",
        "platform": "python",
        "transaction": run.slug,
        "transaction_info": {"source": "task"},
        "start_timestamp": run.started_at,
        "timestamp": run.ended_at,
        "tags": {"jobType": run.slug, "eventId": str(run.event_id or run.id), "trigger": run.trigger},
        "contexts": {
            "trace": {
                "trace_id": run.id.hex,
                "span_id": root,
                "op": "queue.process",
                "status": _status(run.status),
                "description": run.slug,
            }
        },
        "spans": [
            {
                "trace_id": run.id.hex,
                "span_id": _span_id(row.id),
                "parent_span_id": root,
                "op": f"step.{row.type}",
                "description": row.key,
                "status": _status(row.status),
                "start_timestamp": row.started_at,
                "timestamp": row.ended_at,
                "data": {"attempt": row.number},
            }
            for row in rows
        ],
    }


def _status(status: str) -> str:
    return {"completed": "ok", "cancelled": "cancelled"}.get(status, "internal_error")


def _span_id(id_: UUID) -> str:
    return id_.hex[16:]


def _stack(traceback: str) -> dict[str, Any]:
    """The frames of a traceback as it is stored; its source lines and variables stay here."""
    frames = [
        {"filename": found["file"], "lineno": int(found["line"]), "function": found["function"]}
        for found in _FRAME.finditer(traceback)
    ]
    return {"stacktrace": {"frames": frames}} if frames else {}


def _masked(org_id: UUID, data: Any) -> Any:
    """An event's data without the organization's secrets; of large data its beginning, as text."""
    try:
        _, secrets = secret_sources.secrets_of(org_id)
    except DatabaseError:
        raise
    except Exception as error:
        return f"(not shown: {error})"
    rules = redaction.rules_of(org_id)
    shown = secrets.mask_json(rules.masked({"data": data})["data"])
    text = json.dumps(shown, ensure_ascii=False)
    return shown if len(text) <= MAX_DATA_CHARACTERS else text[:MAX_DATA_CHARACTERS] + " …"
