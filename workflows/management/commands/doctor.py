"""`doctor`: is anything stuck, and does everything answer?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django.utils import timezone

from workflows import selectors, services
from workflows.engine.state.refused import Refused, refused_today
from workflows.management.output import READS, HeadraceCommand, table
from workflows.presenters.retention import table_out
from workflows.selectors import run_limits
from workflows.selectors import trouble as trouble_selectors
from workflows.selectors.absent_code import absent_code
from workflows.selectors.access import keys as key_selectors
from workflows.selectors.connections import connections_now
from workflows.selectors.health_checks import broker_answers, store_answers
from workflows.selectors.observed import observed_counts
from workflows.selectors.trouble import BadVersion, SweepTrouble
from workflows.selectors.upkeep import bloat, retention
from workflows.services.access import secrets


class Command(HeadraceCommand):
    help = (
        "Report faults of the engine and what answers. Exit code 1 where there is a fault or something does not answer."
    )
    not_audited: ClassVar[Mapping[str, str]] = {"": READS}

    def handle(self, *args: Any, **options: Any) -> None:
        bad = trouble_selectors.unloadable_versions()
        refused, limits, connections = refused_today(), run_limits.current(), connections_now()
        encrypted, keys = secrets.look(), key_selectors.troubles(timezone.now())
        health = {
            **selectors.health(),
            **observed_counts(),
            "unloadableVersions": len(bad),
            "refusedDefinitions": len(refused),
            "unreadableSecrets": encrypted.unreadable_count,
            "secretsUnderOldKeys": encrypted.rotated,
        }
        troubles = trouble_selectors.sweep_troubles()
        checks = services.readiness(store=store_answers(), broker=broker_answers())
        absent = absent_code()
        sizes, announcement = bloat.table_sizes(), retention.announcement()
        faults = [name for name in (*selectors.FAULTS, "unloadableVersions") if health[name]]
        ok = not faults and all(checks.values())
        if options["as_json"]:
            details = {
                "sweeps": [_as_json(each) for each in troubles],
                "versions": [_version(each) for each in bad],
                "runLimits": limits.as_json(),
                "connections": connections.as_json(),
                "absentCode": [dataclasses.asdict(each) for each in absent],
                "refused": [dataclasses.asdict(each) for each in refused],
                "keys": [dataclasses.asdict(each) for each in keys],
                "unreadable": encrypted.unreadable,
                "retention": announcement,
                "tables": [table_out(size) for size in sizes],
                "bloat": [size.warning for size in sizes if size.warning],
            }
            self.print_json({**health, "oldestUnmatchedEvent": _oldest(), "checks": checks, **details, "ok": ok})
        else:
            self._print(health, checks, troubles, bad)
            self._print_refused(refused)
            self.stdout.write(limits.sentence)
            for each in (*absent, *keys):
                self.stdout.write(str(each))
            for row in encrypted.unreadable:
                self.stdout.write(f"No key opens the {row}: see HEADRACE_ENCRYPTION_KEYS_OLD.")
            for text in (announcement, *(size.warning for size in sizes)):
                if text:
                    self.stdout.write(text)
            if connections.is_short:
                self.stdout.write(connections.warning)
        if not ok:
            raise SystemExit(1)

    def _print(
        self,
        health: dict[str, int],
        checks: dict[str, bool],
        troubles: Sequence[SweepTrouble],
        bad: Sequence[BadVersion],
    ) -> None:
        rows = table("what", "now")
        for name, value in {**health, **checks}.items():
            rows.add_row(name, str(value))
        oldest = trouble_selectors.oldest_unmatched_event() if health["unmatchedEvents"] else None
        if oldest is not None:
            rows.add_row("oldest unmatched event", f"{(timezone.now() - oldest).total_seconds():,.0f} s old")
        self.console.print(rows)
        if troubles:
            rows = table("sweep", "trouble", "items", "tries", "since", "last error")
            for each in troubles:
                items = f"{each.count} (such as {each.example})" if each.example else ""
                rows.add_row(each.sweep, each.what, items, str(each.tries), f"{each.since:%m-%d %H:%M:%S}", each.error)
            self.console.print(rows)
        if bad:
            rows = table("version", "why it can't be loaded")
            for version in bad:
                rows.add_row(str(version.version_id), version.reason)
            self.console.print(rows)

    def _print_refused(self, refused: Sequence[Refused]) -> None:
        """They go on as they are, and no fault is counted; publishing them again needs a change."""
        if not refused:
            return
        rows = table("published by earlier rules", "of", "what publishing it now would say")
        for each in refused:
            rows.add_row(f"{each.kind} {each.name}", each.organization, "\n".join(each.reasons))
        self.console.print(rows)


def _oldest() -> str | None:
    oldest = trouble_selectors.oldest_unmatched_event()
    return oldest.isoformat() if oldest else None


def _as_json(trouble: SweepTrouble) -> dict[str, Any]:
    return {
        "sweep": trouble.sweep,
        "trouble": trouble.what,
        "items": trouble.count if trouble.example else 0,
        "example": trouble.example,
        "organizations": trouble.organizations,
        "tries": trouble.tries,
        "since": trouble.since.isoformat(),
        "error": trouble.error,
    }


def _version(bad: BadVersion) -> dict[str, str]:
    return {"version": str(bad.version_id), "reason": bad.reason}
