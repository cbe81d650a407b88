"""`bulk list | show | stop | resume`: bulk operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.core.management.base import CommandParser

from workflows import presenters
from workflows.management.bulk import watch
from workflows.management.output import READS, HeadraceCommand, table
from workflows.models import BulkOperation
from workflows.services import bulk


class Command(HeadraceCommand):
    help = "Look at bulk operations, stop and resume them."
    changes_by_parts = ("stop", "resume")
    not_audited: ClassVar[Mapping[str, str]] = {"list": READS, "show": READS}

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        verbs = parser.add_subparsers(dest="verb", required=True)
        self.add_verb(verbs, "list", "the latest operations")
        for name, text in (("show", "show one"), ("stop", "stop one"), ("resume", "go on with a stopped one")):
            verb = self.add_verb(verbs, name, text)
            verb.add_argument("operation", type=UUID)
            if name == "resume":
                verb.add_argument("--no-wait", action="store_false", dest="wait", help="do not wait for the end")

    def handle(self, *args: Any, **options: Any) -> None:
        organization = self.organization(options)
        if options["verb"] == "list":
            self._list(bulk.recent(organization), options)
            return
        if options["verb"] == "stop":
            operation = bulk.stop(organization, options["operation"], by="the command line")
            self.doing("operation", operation.id)
        elif options["verb"] == "resume":
            operation = bulk.resume(organization, options["operation"], by="the command line")
            self.doing("operation", operation.id)
            operation = watch(self, operation, wait=options["wait"], quiet=options["as_json"])
        else:
            operation = bulk.get(organization, options["operation"])
        self.print_json(presenters.operation_out(operation))

    def _list(self, operations: list[BulkOperation], options: dict[str, Any]) -> None:
        if options["as_json"]:
            self.print_json([presenters.operation_out(operation) for operation in operations])
            return
        rows = table(
            "operation", "action", "status", "done", "passed over", "repaired before", "matched", "by", "created"
        )
        for each in operations:
            rows.add_row(
                str(each.id),
                each.action,
                each.status,
                str(each.done),
                str(each.passed_over),
                str(each.repaired_before),
                each.counted,
                each.created_by,
                f"{each.created_at:%Y-%m-%d %H:%M:%S}",
            )
        self.console.print(rows)
