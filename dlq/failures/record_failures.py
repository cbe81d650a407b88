"""Writes dead letters in the transaction, and on the cursor, that records their failures."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from dlq.failures.grouping import fingerprint, group_id
from throttling.environment import whole_number
from workflows.engine.state import sealed
from workflows.engine.state.records import StepFailed

_SQL = (Path(__file__).parent.parent / "sql" / "bury.sql").read_text(encoding="utf-8")


MAX_AUTO_REPLAY_S = 7 * 86_400
AUTO_REPLAY_S = whole_number(os.environ, "HEADRACE_DLQ_AUTO_REPLAY_S", 300, low=0, high=MAX_AUTO_REPLAY_S)
AUTO_REPLAYS = whole_number(os.environ, "HEADRACE_DLQ_AUTO_REPLAYS", 3, low=0, high=100)


def bury(*, failures: Sequence[StepFailed], cursor: psycopg.Cursor[Any], **_: Any) -> None:
    """Receiver of `workflows.signals.steps_failed`: one statement, in the recording transaction."""
    rows = [_row(failure) for failure in failures]
    cursor.execute(_SQL, {"failures": json.dumps(rows), "auto_s": AUTO_REPLAY_S, "auto_max": AUTO_REPLAYS})


def _row(failure: StepFailed) -> dict[str, Any]:
    error = failure.error
    print_, message, where = fingerprint(failure.step_type, error)
    return {
        "group_id": str(group_id(failure.org_id, print_)),
        "org": str(failure.org_id),
        "run": str(failure.run_id),
        "step_run": str(failure.step_run_id) if failure.step_run_id else None,
        "key": failure.step_key,
        "type": failure.step_type,
        "category": error.category.value,
        "fingerprint": print_,
        "name": error.name[:200],
        "message": sealed.plain_text(error.message, failure.org_id),
        "stack": sealed.plain_text(error.traceback, failure.org_id),
        "normal": sealed.plain_text(message, failure.org_id),
        "location": where,
        "attempts": failure.attempts,
        "alert": failure.alert,
    }
