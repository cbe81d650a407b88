"""`secret set | list | delete | rotate`, and the verbs of `management.payloads`."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.management.base import CommandError, CommandParser

from workflows.management import payloads
from workflows.management.output import READS, HeadraceCommand, standard_input, table
from workflows.presenters.access import secret_out
from workflows.selectors.access import secrets as selectors
from workflows.services.access import secrets
from workflows.steps import secret_rules
from workflows.steps.masking import SHORTEST


class Command(HeadraceCommand):
    help = (
        "Keep secrets for `${ secrets.NAME }`, the value from standard input; encrypt payloads in the database. "
        "The verbs about payloads may be ended at any moment and called again; runs may be open."
    )
    changes_by_parts = ("set", "delete", "rotate", *payloads.CHANGES)
    not_audited: ClassVar[Mapping[str, str]] = {"list": READS, payloads.READS: READS}

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        verbs = parser.add_subparsers(dest="verb", required=True)
        self.add_verb(verbs, "set", "set a secret").add_argument("name")
        delete = self.add_verb(verbs, "delete", "delete a secret, where no flow would be left without it")
        delete.add_argument("name")
        delete.add_argument("--force", action="store_true", help="although flows use it")
        self.add_verb(verbs, "list", "list the names: where each comes from, and who uses it")
        self.add_verb(
            verbs, "rotate", "write all that is encrypted but payloads, of every organization, with the newest key"
        )
        payloads.add_verbs(self, verbs)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["verb"] == "rotate":
            self._rotate(options)
            return
        if options["verb"].endswith("-payloads"):
            payloads.handle(self, options)
            return
        organization = self.organization(options)
        if options["verb"] == "set":
            secret_rules.check_name(options["name"])
            value = _read_value()
            secret_rules.check_value(value)
            if len(value) < SHORTEST:
                self.stderr.write(
                    f"{options['name']} has fewer than {SHORTEST} characters: it is masked only where it stands alone."
                )
            secrets.set_secret(organization, options["name"], value)
            self.doing("secret", options["name"])
        elif options["verb"] == "delete":
            left = secrets.delete_secret(organization, options["name"], force=options["force"])
            self.doing("secret", options["name"])
            if left.sentence:
                self.stderr.write(left.sentence)
        else:
            self._list(selectors.secret_names(organization), as_json=options["as_json"])

    def _list(self, found: selectors.SecretNames, *, as_json: bool) -> None:
        if as_json:
            self.print_json([secret_out(each) for each in found.rows])
            return
        rows = table("secret", "from", "also in", "written", "used by")
        for each in found.rows:
            written = f"{each.updated_at:%Y-%m-%d %H:%M}" if each.updated_at else ""
            rows.add_row(each.name, each.source, ", ".join(each.also_in), written, ", ".join(each.flows))
        self.console.print(rows)
        for each in found.missing:
            self.stdout.write(f"missing: {each.name}, which {', '.join(each.flows)} would ask for in vain")
        for reason in found.failed_sources:
            self.stdout.write(reason)

    def _rotate(self, options: dict[str, Any]) -> None:
        """Exit code 1 where something is left that no key opens."""
        self.doing("secrets")
        result = secrets.rotate()
        if options["as_json"]:
            self.print_json({
                "rotated": result.rotated, "newest": result.newest, "unreadable": result.unreadable_count,
                "rows": result.unreadable,
            })  # fmt: skip
        else:
            self.stdout.write(
                f"{result.rotated} written with the newest key, {result.newest} had it, {result.unreadable_count} are "
                "opened by no key."
            )
            for row in result.unreadable:
                self.stdout.write(f"  {row}: add its key to HEADRACE_ENCRYPTION_KEYS_OLD, or store it again")
        if result.unreadable_count:
            raise SystemExit(1)


def _read_value() -> str:
    """From the terminal, without showing it, or standard input less the end of its last line. Raises CommandError."""
    try:
        return getpass.getpass("value: ") if sys.stdin is not None and sys.stdin.isatty() else _text(standard_input())
    except UnicodeDecodeError:
        raise CommandError("The value is no text in UTF-8: nothing was stored.") from None


def _text(given: bytes) -> str:
    return given.decode().replace("\r\n", "\n").rstrip("\r\n")
