"""`runs list | show | cancel`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.core.management.base import CommandParser

from workflows import presenters, selectors, services
from workflows.management.commands.trigger import steps_table
from workflows.management.output import HeadraceCommand, table
from workflows.models import Run
from workflows.templatetags.headrace import duration, pretty


class Command(HeadraceCommand):
    help = "List, show and cancel runs."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        verbs = parser.add_subparsers(dest="verb", required=True)
        listing = self.add_verb(verbs, "list", "list runs, newest first")
        listing.add_argument("--status", default="", choices=["", *Run.Status.values, "waiting"])
        listing.add_argument("--flow", default="")
        listing.add_argument("--event", default="", help="the name of the event that started them")
        listing.add_argument("--user", default="")
        listing.add_argument("--sort", default="created", choices=selectors.SORTS)
        listing.add_argument("--limit", type=int, default=20)
        for verb, text in (("show", "show a run with its steps"), ("cancel", "cancel a run")):
            command = self.add_verb(verbs, verb, text)
            command.add_argument("run", type=UUID)
            if verb == "cancel":
                command.add_argument("--reason", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['verb']}")(options)

    def _list(self, options: dict[str, Any]) -> None:
        where = selectors.RunFilter(
            status=options["status"], workflow=options["flow"], event_name=options["event"], user_id=options["user"]
        )
        page = selectors.runs_page(self.organization(options), where, sort=options["sort"], limit=options["limit"])
        summaries = [presenters.run_summary(run) for run in page.runs]
        if options["as_json"]:
            self.print_json({"runs": summaries, "nextCursor": page.next_cursor or None})
            return
        rows = table("run", "flow", "status", "trigger", "created", "duration")
        for run in summaries:
            rows.add_row(
                run["id"],
                f"{run['workflow']} v{run['version']}",
                run["status"],
                run["event"] or run["trigger"],
                f"{run['createdAt']:%Y-%m-%d %H:%M:%S}",
                duration(run["duration"]),
            )
        self.console.print(rows)

    def _show(self, options: dict[str, Any]) -> None:
        detail = selectors.run_detail(self.organization(options), options["run"])
        if options["as_json"]:
            self.print_json(presenters.run_out(detail))
            return
        self.console.print(steps_table(detail))
        if detail.run.error:
            self.stdout.write(f"error: {pretty(detail.run.error)}")

    def _cancel(self, options: dict[str, Any]) -> None:
        services.cancel_run(self.organization(options), options["run"], reason=options["reason"])
        self._show(options)
