"""`payloads encrypt | decrypt | rotate | count`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.management.base import CommandParser

from workflows.errors import InvalidInput
from workflows.management.output import READS, HeadraceCommand, table
from workflows.sealing import envelope
from workflows.services.access import payloads
from workflows.services.access.payloads import Rewritten
from workflows.this_process.configuration import configuration


class Command(HeadraceCommand):
    help = (
        "Keep the payloads of an organization encrypted in the database, or no more; write them with the newest key. "
        "Runs may be open, and each may be ended at any moment and called again."
    )
    changes_by_parts = ("encrypt", "decrypt", "rotate")
    not_audited: ClassVar[Mapping[str, str]] = {"count": READS}

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        verbs = parser.add_subparsers(dest="verb", required=True)
        for verb, what in (
            ("encrypt", "store payloads encrypted from now on, and encrypt those that are stored"),
            ("decrypt", "store payloads in clear from now on, and decrypt those that are stored"),
        ):
            self.add_verb(verbs, verb, what).add_argument(
                "--new-only", action="store_true", help="leave what is stored already as it is"
            )
        self.add_verb(verbs, "rotate", "write what is under older keys, of every organization, with the newest one")
        self.add_verb(verbs, "count", "count what is in clear and what is under which key; reads all payloads")

    def handle(self, *args: Any, **options: Any) -> None:
        verb = options["verb"]
        if verb == "count":
            self._say(payloads.count([self.organization(options)]), options)
        elif verb == "rotate":
            self.doing("payloads")
            self._say(payloads.rotate(), options)
        else:
            self._switch(options, on=verb == "encrypt")

    def _switch(self, options: dict[str, Any], *, on: bool) -> None:
        organization = self.organization(options)
        if not on and configuration().encrypt_payloads:
            raise InvalidInput(
                "HEADRACE_ENCRYPT_PAYLOADS is set for the whole installation: take it away, restart all processes, and "
                "call this again."
            )
        payloads.switch_to(organization, on=on)
        self.doing("organization", organization.slug)
        if options["new_only"] and options["as_json"]:
            self.print_json({"organization": organization.slug, "encrypted": on})
        elif options["new_only"]:
            self.stdout.write(
                f"{organization.slug}: what is stored from now on is {'encrypted' if on else 'in clear'}."
            )
        else:
            payloads.wait_until_known()
            self._say(payloads.rewrite(organization), options)

    def _say(self, result: Rewritten, options: dict[str, Any]) -> None:
        """Exit code 1 where something is left that no key opens."""
        newest = envelope.keys().current()[0].name
        if options["as_json"]:
            self.print_json({
                "rows": result.rows, "changed": result.changed, "newestKey": newest,
                "inClear": result.by_key[""], "byKey": {key: n for key, n in sorted(result.by_key.items()) if key},
                "unreadable": result.unreadable_count, "places": result.unreadable,
            })  # fmt: skip
        else:
            rows = table("payloads", "number")
            rows.add_row("in clear", f"{result.by_key['']:,}")
            for key, number in sorted(result.by_key.items()):
                if key:
                    rows.add_row(f"under the key {key}{' (the newest)' if key == newest else ''}", f"{number:,}")
            self.console.print(rows)
            if options["verb"] != "count":
                self.stdout.write(f"{result.changed:,} changed.")
            for place in result.unreadable:
                self.stdout.write(f"  {place}")
        if result.unreadable_count:
            raise SystemExit(1)
