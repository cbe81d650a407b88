"""`trigger`: start a run, and watch it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.core.management.base import CommandError, CommandParser
from django.db import connection

from workflows import presenters, selectors, services
from workflows.edge.extras import extra
from workflows.management.output import HeadraceCommand, json_argument, table
from workflows.models import Organization
from workflows.templatetags.headrace import duration

if TYPE_CHECKING:
    from rich.table import Table

COLOURS = {"completed": "green", "failed": "red", "running": "cyan", "waiting": "magenta", "ready": "blue"}


class Command(HeadraceCommand):
    help = "Start a run of a flow; with --wait, follow it to its end (exit code 1 where it does not complete)."
    not_audited: ClassVar[Mapping[str, str]] = {"": "The data plane: the run says by whom it was started."}

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("flow", help="the flow's slug")
        parser.add_argument("--data", default="{}", help="the input as JSON, or - for standard input")
        parser.add_argument("--priority", help="1…10 or critical, high, normal, low, background")
        parser.add_argument("--delay", help="for example 5m")
        parser.add_argument("--key", default="", help="an idempotency key")
        parser.add_argument(
            "--tag", action="append", default=[], help="a word by which the run is found; may be repeated"
        )
        parser.add_argument("--force", action="store_true", help="make a run whatever idempotency keys say")
        parser.add_argument("--wait", action="store_true", help="follow the run to its end")
        parser.add_argument("--timeout", type=float, default=300, help="seconds to wait at most (default: 300)")

    def handle(self, *args: Any, **options: Any) -> None:
        organization = self.organization(options)
        given = options["priority"]
        priority = int(given) if given and given.removeprefix("-").isdecimal() and len(given) < 20 else given
        triggered = services.trigger(
            organization,
            options["flow"],
            json_argument(options["data"], "--data"),
            priority=priority,
            delay=options["delay"],
            idempotency_key=options["key"],
            force=options["force"],
            tags=options["tag"],
            kind="cli",
        )
        run_id = triggered.run_ids[0]
        if not options["wait"]:
            if options["as_json"]:
                self.print_json({"runId": str(run_id), "existing": triggered.existing, "pruned": triggered.pruned})
            else:
                what = ", which has ended and is deleted" if triggered.pruned else ""
                self.stdout.write(f"run {run_id}" + (f" (an earlier one with this key{what})" * triggered.existing))
            return
        if triggered.pruned:
            raise CommandError(
                f"run {run_id}, which has this key, has ended and is deleted: there is nothing to wait for"
            )
        detail = self._watch(organization, run_id, options)
        if options["as_json"]:
            self.print_json(presenters.run_out(detail))
        if detail.run.status != "completed":
            raise CommandError(f"run {run_id} {detail.status}")

    def _watch(self, organization: Organization, run_id: UUID, options: dict[str, Any]) -> selectors.RunDetail:
        deadline = time.monotonic() + options["timeout"]
        quiet = options["as_json"]
        live = None if quiet else extra("rich.live", "cli").Live(console=self.console, auto_refresh=False)
        with live or contextlib.nullcontext():
            while True:
                detail = selectors.run_detail(organization, run_id)
                if live is not None:
                    live.update(steps_table(detail), refresh=True)
                if not detail.run.is_live or time.monotonic() > deadline:
                    return detail
                connection.close()
                time.sleep(0.15)


def steps_table(detail: selectors.RunDetail) -> Table:
    """The steps of a run, as they are now."""
    run = detail.run
    rows = table(
        "step", "type", "status", "tries", "duration", "error", title=f"{run.flow.slug}  {run.id}  {detail.status}"
    )
    for step in detail.steps:
        out = presenters.step_out(step)
        colour = COLOURS.get(out["status"], "dim")
        error = out["error"]["message"][:80] if out["error"] else ""
        rows.add_row(
            out["id"],
            out["type"],
            f"[{colour}]{out['status']}[/]",
            str(len(out["attempts"])),
            duration(out["duration"]),
            error,
        )
    return rows
