"""`audit list`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.management.base import CommandParser

from workflows.edge.values import moment
from workflows.management.output import READS, HeadraceCommand, table
from workflows.presenters.access import audit_out
from workflows.selectors.access import audit


class Command(HeadraceCommand):
    help = "Read the audit log: who changed what, newest first."
    not_audited: ClassVar[Mapping[str, str]] = {"list": READS}

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        verbs = parser.add_subparsers(dest="verb", required=True)
        listing = self.add_verb(verbs, "list", "list entries, newest first")
        listing.add_argument("--actor", default="", help="whose")
        listing.add_argument("--verb-is", default="", dest="what", help="which verb; run.* for all that begin so")
        listing.add_argument("--object", default="", help="the id of what it was done to")
        listing.add_argument("--since", default="", help="from this time on")
        listing.add_argument("--until", default="", help="before this time")
        listing.add_argument("--limit", type=int, default=50, help="how many (default: 50)")
        listing.add_argument("--cursor", default="", help="of the page before")
        listing.add_argument(
            "--of-no-organization", action="store_true", dest="of_none", help="logins, and what belongs to all"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        where = audit.AuditFilter(
            actor=options["actor"],
            verb=options["what"],
            object_id=options["object"],
            since=moment(options["since"], "--since") if options["since"] else None,
            until=moment(options["until"], "--until") if options["until"] else None,
        )
        organization = None if options["of_none"] else self.organization(options)
        page = audit.entries(organization, where, limit=options["limit"], cursor=options["cursor"])
        if options["as_json"]:
            self.print_json(audit_out(page))
            return
        rows = table("at", "by", "who", "what", "of", "id")
        for each in page.entries:
            rows.add_row(
                f"{each.at:%Y-%m-%d %H:%M:%S}", each.actor_kind, each.actor, each.verb, each.object_kind, each.object_id
            )
        self.console.print(rows)
        if page.searched_to is not None:
            self.stdout.write(f"searched back to {page.searched_to:%Y-%m-%d %H:%M:%S} UTC")
        if page.next_cursor:
            self.stdout.write(f"more: --cursor {page.next_cursor}")
