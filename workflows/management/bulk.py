"""What the commands that work in bulk share: the pace, and a progress bar."""

from __future__ import annotations

import time

from django.core.management.base import CommandParser
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from workflows.management.output import HeadraceCommand
from workflows.models import BulkOperation

LOOK_EVERY_S = 0.2


def add_pace(parser: CommandParser) -> None:
    """`--rate` and `--no-wait`."""
    parser.add_argument("--rate", type=float, default=None, help="at most so many a second")
    parser.add_argument("--no-wait", action="store_false", dest="wait", help="do not wait for the end")


def watch(command: HeadraceCommand, operation: BulkOperation, *, wait: bool, quiet: bool) -> BulkOperation:
    """Show the progress until the operation ends or is stopped. The leader does the work: this only looks on."""
    if not quiet:
        command.stdout.write(f"operation {operation.id}: {operation.matched} matched")
    if not wait:
        return operation
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=command.console, disable=quiet) as progress:
        bar = progress.add_task(operation.action, total=operation.matched)
        while True:
            operation.refresh_from_db()
            progress.update(bar, completed=operation.done + operation.passed_over + operation.repaired_before)
            if operation.status != BulkOperation.Status.RUNNING:
                break
            time.sleep(LOOK_EVERY_S)
    if not quiet:
        before = f", {operation.repaired_before} repaired before" if operation.repaired_before else ""
        command.stdout.write(f"{operation.status}: {operation.done} done, {operation.passed_over} passed over{before}")
        for problem in operation.problems[:10]:
            command.stdout.write(f"  {problem['id']}: {problem['reason']}")
    return operation
