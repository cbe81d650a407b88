"""`prune`: delete what has expired now, at a pace; count it; export it before."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from workflows.edge.extras import extra
from workflows.engine.retention.progress import Progress
from workflows.management.output import HeadraceCommand, table
from workflows.presenters.retention import progress_out
from workflows.selectors.upkeep import retention as selectors
from workflows.services.retention import pruning
from workflows.services.retention.exporting import ExportFailed


class Command(HeadraceCommand):
    help = (
        "Delete what has expired and nothing refers to, as the leader does every ten minutes; it may be ended at any "
        "moment and begun again. It deletes in the week of dry runs after an upgrade too: look with --dry-run before."
    )

    changes_by_parts = ("",)

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(org=None)  # all of them
        parser.add_argument("--dry-run", action="store_true", help="only count what would be deleted")
        parser.add_argument(
            "--what",
            action="append",
            default=[],
            choices=pruning.ALL_SUBJECTS,
            help="only this; several times for more",
        )
        parser.add_argument("--older-than", help="instead of what the rules say, such as 90d; an hour at least")
        parser.add_argument("--pace", type=int, help="rows a second (HEADRACE_RETENTION_ROWS_PER_S, or 1,000)")
        parser.add_argument("--export", type=Path, metavar="DIR", help="write runs to a file in this folder before")

    def handle(self, *args: Any, **options: Any) -> None:
        request = pruning.Request(
            organizations=[self.organization(options)] if options["org"] is not None else None,
            subjects=options["what"],
            older_than=options["older_than"],
            per_s=options["pace"],
            export=options["export"],
            dry_run=options["dry_run"],
        )
        self.doing("retention")
        with _shown(self, quiet=options["as_json"]) as tell:
            try:
                done = pruning.prune(request, tell=tell)
            except ExportFailed as error:
                raise CommandError(str(error)) from None
            except KeyboardInterrupt:
                raise CommandError("Stopped. Call it again, and it goes on.") from None
        if options["as_json"]:
            self.print_json(progress_out(done, dry_run=request.dry_run))
            return
        self._print(done, dry_run=request.dry_run)

    def _print(self, done: Progress, *, dry_run: bool) -> None:
        rows = table("of", "rows that would go" if dry_run else "rows deleted")
        counts = done.by_subject if dry_run else done.deleted
        for name, number in sorted(counts.items()):
            rows.add_row(name, f"{number:,}")
        self.console.print(rows)
        for reason, number in sorted(done.held.items()):
            self.stdout.write(f"kept although expired: {number:,}, since {reason}")
        if dry_run:
            self.stdout.write("Steps, attempts and letters go with their runs. Nothing was deleted.")
        elif note := selectors.announcement():
            self.stdout.write(note)


@contextlib.contextmanager
def _shown(command: HeadraceCommand, *, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A line that counts; what moves it."""
    if quiet:
        yield lambda _: None
        return
    rich = extra("rich.progress", "cli")
    columns = (rich.TextColumn("{task.description}"), rich.SpinnerColumn(), rich.TimeElapsedColumn())
    with rich.Progress(*columns, console=command.console, transient=True) as shown:
        task = shown.add_task("0 rows", total=None)

        def tell(progress: Progress) -> None:
            rows, runs = sum(progress.deleted.values()), progress.deleted["headrace_workflows_run"]
            shown.update(task, description=f"{rows:,} rows, {runs:,} runs of them")

        yield tell
