"""`pauses list | pause | drain | resume`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.management.base import CommandParser

from workflows.management.output import READS, HeadraceCommand, table
from workflows.services import pauses
from workflows.services.pauses import Subject

BY = "manage.py pauses"


class Command(HeadraceCommand):
    help = "Pause or drain a flow, a queue or an organization, and let it go on."
    changes = ("pause", "drain", "resume")
    not_audited: ClassVar[Mapping[str, str]] = {"list": READS}

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        verbs = parser.add_subparsers(dest="verb", required=True)
        self.add_verb(verbs, "list", "what is paused or draining")
        for name, text in (
            ("pause", "let nothing start"),
            ("drain", "let started runs end, and no other start"),
            ("resume", "let it go on"),
        ):
            verb = self.add_verb(verbs, name, text)
            what = verb.add_mutually_exclusive_group(required=True)
            what.add_argument("--flow", default="", help="a flow")
            what.add_argument("--queue", default="", help="io or compute, of all organizations")
            what.add_argument("--organization", action="store_true", help="the organization of --org")
            if name != "resume":
                verb.add_argument("--skip", action="store_true", help="what arrives meanwhile is marked and dropped")
                verb.add_argument("--reason", default="", help="why")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["verb"] == "list":
            self._list(pauses.stopped(self.organization(options)), options)
            return
        subject = self._subject(options)
        kind = "flow" if subject.flow else "queue" if subject.queue else "organization"
        named = subject.flow or subject.organization
        self.doing(kind, named.slug if named else subject.queue)
        if options["verb"] == "resume":
            pauses.resume(subject, by=BY)
            self._said({"resumed": True}, f"The {subject} goes on.", options)
            return
        arrivals = "skip" if options["skip"] else "queue"
        made = pauses.stop(subject, mode=options["verb"], arrivals=arrivals, reason=options["reason"], by=BY)  # type: ignore[arg-type]
        self._said(made, f"The {subject} is {'paused' if options['verb'] == 'pause' else 'draining'}.", options)

    def _subject(self, options: dict[str, Any]) -> Subject:
        if options["queue"]:
            return pauses.queue(options["queue"])
        organization = self.organization(options)
        return pauses.flow(organization, options["flow"]) if options["flow"] else Subject(organization=organization)

    def _said(self, made: dict[str, Any], text: str, options: dict[str, Any]) -> None:
        if options["as_json"]:
            self.print_json(made)
        else:
            self.stdout.write(text)

    def _list(self, rows: list[dict[str, Any]], options: dict[str, Any]) -> None:
        if options["as_json"]:
            self.print_json(rows)
            return
        names = ("what", "flow", "queue", "mode", "arrivals", "reason", "by", "since")
        shown = table(*names)
        for row in rows:
            shown.add_row(*(str(row[name] or "") for name in names))
        self.console.print(shown)
