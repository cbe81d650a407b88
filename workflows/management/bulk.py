"""What the commands that work in bulk share: the pace, and a progress bar."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from django.core.management.base import CommandParser

from workflows.edge.extras import extra
from workflows.management.output import HeadraceCommand
from workflows.models import BulkOperation

LOOK_EVERY_S = 0.2


def counted_out(draft: BulkOperation) -> dict[str, Any]:
    """What a dry run says: to how many it would be done."""
    return {"matched": draft.matched, "matchedAtLeast": draft.matched_at_least, "perSecond": draft.per_second,
            "dryRun": True}  # fmt: skip


def add_pace(parser: CommandParser) -> None:
    """`--rate` and `--no-wait`."""
    parser.add_argument("--rate", type=float, default=None, help="at most so many a second")
    parser.add_argument("--no-wait", action="store_false", dest="wait", help="do not wait for the end")


@contextlib.contextmanager
def bar(
    command: HeadraceCommand, name: str, total: int | None, *, transient: bool = False
) -> Iterator[Callable[[int], None]]:
    """A progress bar; what moves it."""
    rich = extra("rich.progress", "cli")
    columns = (
        rich.TextColumn("{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn(), rich.TimeRemainingColumn()
    )  # fmt: skip
    with rich.Progress(*columns, console=command.console, transient=transient) as progress:
        task = progress.add_task(name, total=total)
        yield lambda completed: progress.update(task, completed=completed)


def watch(command: HeadraceCommand, operation: BulkOperation, *, wait: bool, quiet: bool) -> BulkOperation:
    """Show the progress until the operation ends or is stopped. The leader does the work: this only looks on."""
    if not quiet:
        command.stdout.write(f"operation {operation.id}: {operation.counted} matched")
    if not wait:
        return operation
    total = None if operation.matched_at_least else operation.matched
    with contextlib.nullcontext() if quiet else bar(command, operation.action, total) as show:
        while True:
            operation.refresh_from_db()
            if show is not None:
                show(operation.looked_at)
            if operation.status != BulkOperation.Status.RUNNING:
                break
            time.sleep(LOOK_EVERY_S)
    if not quiet:
        before = f", {operation.repaired_before} repaired before" if operation.repaired_before else ""
        command.stdout.write(f"{operation.status}: {operation.done} done, {operation.passed_over} passed over{before}")
        for problem in operation.problems[:10]:
            command.stdout.write(f"  {problem['id']}: {problem['reason']}")
    return operation
