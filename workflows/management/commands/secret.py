"""`secret set | list | delete | rotate`, and the verbs of `management.payloads`."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.management.base import CommandError, CommandParser

from workflows.management import payloads
from workflows.management.output import READS, HeadraceCommand, table
from workflows.models import Secret
from workflows.services.access import secrets
from workflows.steps import secret_rules
from workflows.steps.masking import SHORTEST


class Command(HeadraceCommand):
    help = (
        "Keep secrets for `${ secrets.NAME }`, the value from standard input; encrypt payloads in the database. "
        "The verbs about payloads may be ended at any moment and called again; runs may be open."
    )
    changes = ("delete",)
    changes_by_parts = ("set", "rotate", *payloads.CHANGES)
    not_audited: ClassVar[Mapping[str, str]] = {"list": READS, payloads.READS: READS}

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        verbs = parser.add_subparsers(dest="verb", required=True)
        for verb in ("set", "delete"):
            self.add_verb(verbs, verb, f"{verb} a secret").add_argument("name")
        self.add_verb(verbs, "list", "list the names")
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
            secrets.delete_secret(organization, options["name"])
            self.doing("secret", options["name"])
        else:
            found = Secret.objects.filter(organization=organization).order_by("name")
            if options["as_json"]:
                self.print_json([{"name": secret.name, "updatedAt": secret.updated_at} for secret in found])
                return
            rows = table("secret", "updated")
            for secret in found:
                rows.add_row(secret.name, f"{secret.updated_at:%Y-%m-%d %H:%M}")
            self.console.print(rows)

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
        return getpass.getpass("value: ") if sys.stdin.isatty() else sys.stdin.read().rstrip("\r\n")
    except UnicodeDecodeError:
        raise CommandError("The value is no text in UTF-8: nothing was stored.") from None
