"""Retention as JSON."""

from __future__ import annotations

from typing import Any

from workflows.engine.retention.progress import Progress
from workflows.engine.retention.rules import Kept
from workflows.selectors.upkeep.bloat import TableSize
from workflows.selectors.upkeep.retention import Retention


def retention_out(found: Retention, *, of_installation: bool) -> dict[str, Any]:
    """The rules of an organization, and how far deleting is; numbers over all organizations for operators only."""
    state = found.state
    numbers = {
        "wouldDelete": state.would_delete,
        "lastPass": {"beganAt": state.began_at, "endedAt": state.ended_at, "deleted": state.last_pass},
        "deleted": state.deleted,
        "held": state.held,
    }
    hidden = {**dict.fromkeys(numbers), "lastPass": {**numbers["lastPass"], "deleted": None}}
    return {
        "rules": [rule_out(kept, found) for kept in found.rules],
        "on": found.is_on,
        "rowsPerSecond": found.rows_per_s,
        "dryRunUntil": state.dry_until,
        "announcement": found.announcement if of_installation else found.announcement_without_numbers,
        "nextPassAt": state.next_at,
        "runsBeingDeleted": found.being_deleted,
        **(numbers if of_installation else hidden),
    }


def rule_out(kept: Kept, found: Retention) -> dict[str, Any]:
    """How long a subject is kept, who says so, and what that means."""
    subject = kept.subject
    return {
        "subject": subject.name,
        "days": kept.days,
        "source": kept.source,
        "default": subject.days,
        "byOrganization": subject.by_organization,
        "meaning": subject.meaning,
        "oldest": found.oldest.get(subject.name),
        "seen": {
            place: stored[subject.name].seen if subject.name in stored else ""
            for place, stored in (("this", found.own), ("all", found.of_all))
        },
    }


def progress_out(progress: Progress, *, dry_run: bool) -> dict[str, Any]:
    """What a call of `prune` did."""
    return {
        "dryRun": dry_run,
        "rows": sum(progress.deleted.values()),
        "bySubject": dict(progress.by_subject),
        "byTable": dict(progress.deleted),
        "kept": dict(progress.held),
    }


def table_out(size: TableSize) -> dict[str, Any]:
    """A table's size, for `doctor --json`."""
    return {
        "table": size.table,
        "liveRows": size.live_rows,
        "deadRows": size.dead_rows,
        "tableBytes": size.table_bytes,
        "indexBytes": size.index_bytes,
        "totalBytes": size.total_bytes,
        "neededBytes": size.needed_bytes,
        "vacuumedAt": size.vacuumed_at,
    }
