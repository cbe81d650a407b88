"""`retention list | set | clear`: how long things are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.management.base import CommandParser

from workflows.management.output import READS, HeadraceCommand, table
from workflows.models import Organization
from workflows.presenters.retention import retention_out
from workflows.selectors.upkeep import retention as selectors
from workflows.services.retention import rules
from workflows.services.retention.pruning import ALL_SUBJECTS

BY = "the command line"


class Command(HeadraceCommand):
    help = "Show how long things are kept, and change it: for an organization (--org), or for all of them (--all)."

    changes = ("set", "clear")
    not_audited: ClassVar[Mapping[str, str]] = {"list": READS}

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        verbs = parser.add_subparsers(dest="verb", required=True)
        self.add_verb(verbs, "list", "what is kept for how long, and how far deleting is")
        for name, text in (("set", "keep something for so long"), ("clear", "take a rule back")):
            verb = self.add_verb(verbs, name, text)
            verb.add_argument("subject", choices=ALL_SUBJECTS)
            verb.add_argument("--all", action="store_true", help="for all organizations without a rule of their own")
            verb.add_argument("--seen", help="of the rule as `list --json` had it; one that was changed since is left")
            if name == "set":
                verb.add_argument("days", help="days from 0.0417 (an hour) to 3650, or forever")

    def handle(self, *args: Any, **options: Any) -> None:
        organization = self.organization(options)
        whose: Organization | None = None if options.get("all") else organization
        if options["verb"] != "list":
            self.doing("retention", options["subject"], of_all=whose is None)
        if options["verb"] == "set":
            rules.set_rule(whose, options["subject"], options["days"], by=BY, seen=options["seen"])
        elif options["verb"] == "clear":
            rules.clear_rule(whose, options["subject"], by=BY, seen=options["seen"])
        found = selectors.retention(organization)
        if options["as_json"]:
            self.print_json(retention_out(found, of_installation=True))
            return
        rows = table("subject", "kept for", "says", "what that means")
        for kept in found.rules:
            days = "ever" if kept.days is None else f"{kept.days:g} days"
            rows.add_row(kept.subject.name, days, kept.source, kept.subject.meaning)
        self.console.print(rows)
        state = found.state
        self.stdout.write(f"deleted since the installation: {sum(state.deleted.values()):,} rows")
        if state.next_at is not None:
            self.stdout.write(f"next pass: {state.next_at:%Y-%m-%d %H:%M:%S} UTC")
        if not found.is_on:
            self.stdout.write("HEADRACE_RETENTION=0: nothing is deleted by itself.")
        for reason, number in sorted(state.held.items()):
            self.stdout.write(f"kept although expired: {number:,}, since {reason}")
        if found.announcement:
            self.stdout.write(found.announcement)
