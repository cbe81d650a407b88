"""An installation of 0.1.0, brought up to date: nothing of it is deleted by surprise."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.restored import Restored
from tests.support.workers import await_that

WITHIN_S = 60
HISTORY = ("run", "steprun", "attempt", "event", "item", "fanout", "cronfire", "triggeroutcome")


def test_nothing_is_deleted_by_surprise(tmp_path: Path) -> None:
    """All of the dump may be older than what is kept: a week of dry runs comes first, and says so."""
    installed = Restored("installation_0_1_0", tmp_path)
    try:
        assert installed.command("migrate", "--no-input").returncode == 0
        for table, columns in (("run", ("ended_at", "created_at")), ("event", ("received_at",))):
            changes = ", ".join(f"{column} = {column} - interval '90 days'" for column in columns)
            installed.change(f"UPDATE headrace_workflows_{table} SET {changes}")
        before = installed.tables()
        installed.start()
        statement = "SELECT would_delete FROM headrace_workflows_retentionstate WHERE announced_at IS NOT NULL"
        (counted,) = await_that(lambda: installed.sql(statement), WITHIN_S, "the announcement")
        assert sum(counted.values()) > 0, counted
        state = "SELECT dry_until > now() + interval '6 days', deleted FROM headrace_workflows_retentionstate"
        assert installed.sql(state) == [(True, {})]
        told = json.loads(installed.command("doctor", "--json").stdout)["retention"]
        assert "Until then nothing is" in told
        after = installed.tables()
        for table in HISTORY:
            rows = [
                {str(row.get("id") or row.get("step_run_id") or (row["container_id"], row["index"])) for row in tables}
                for tables in (before[f"headrace_workflows_{table}"], after[f"headrace_workflows_{table}"])
            ]
            assert rows[0] <= rows[1], table
    finally:
        installed.stop()
