"""`prune`: delete what has expired now, at a pace; count it; export it before."""

from __future__ import annotations

import contextlib
import signal
import threading
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


class Command(HeadraceCommand):
    help = (
        "Delete what has expired and nothing refers to, as the leader does by itself; it may be ended at any "
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
        parser.add_argument(
            "--clear", action="store_true", help="write payloads in clear that are stored encrypted (with --export)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        request = pruning.Request(
            organizations=[self.organization(options)] if options["org"] is not None else None,
            subjects=options["what"],
            older_than=options["older_than"],
            per_s=options["pace"],
            export=options["export"],
            clear=options["clear"],
            dry_run=options["dry_run"],
        )
        self.doing("retention")
        with _shown(self, quiet=options["as_json"]) as tell, _interrupted() as is_to_stop:
            try:
                done = pruning.prune(request, tell=tell, is_to_stop=is_to_stop)
            except OSError as error:
                if request.export is None:
                    raise
                raise CommandError(
                    f"The export can't be written: {error.strerror or error}. What was not exported was not deleted."
                ) from None
            if is_to_stop():
                self.stderr.write("Stopped. Call it again, and it goes on.")
                raise SystemExit(1)  # what was done is in the audit log
        if options["as_json"]:
            self.print_json(progress_out(done, dry_run=request.dry_run))
        else:
            self._print(done, dry_run=request.dry_run)
        if done.failures:
            self.stderr.write(f"Left out, since it failed (manage.py doctor says why): {', '.join(done.failures)}.")
            raise SystemExit(1)

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
def _interrupted() -> Iterator[Callable[[], bool]]:
    """Whether somebody has pressed Ctrl-C: the piece that is under way is ended first. The second time ends it at once,
    as any moment may."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return

    def press(*_: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)


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
