"""Rows of runs that have ended, brought back from an export: they are only ever inserted whole, with their end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from workflows.engine.sql.history import transitions as sql


def insert_runs(rows: Sequence[Mapping[str, Any]]) -> list[UUID]:
    """Insert ended runs. Returns those that were not there."""
    return [row.id for row in sql.insert_run_history(rows=json.dumps(rows))]


def insert_steps(rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert ended step runs. Returns how many were not there."""
    return len(sql.insert_step_history(rows=json.dumps(rows)))
