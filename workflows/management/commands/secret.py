"""`secret set | list | delete`."""

from __future__ import annotations

import getpass
import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from workflows.management.output import HeadraceCommand, table
from workflows.models import Secret
from workflows.steps import secret_rules
from workflows.steps.masking import SHORTEST


class Command(HeadraceCommand):
    help = "Keep secrets for `${ secrets.NAME }`. The value is read from standard input."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        verbs = parser.add_subparsers(dest="verb", required=True)
        for verb in ("set", "delete"):
            self.add_verb(verbs, verb, f"{verb} a secret").add_argument("name")
        self.add_verb(verbs, "list", "list the names")

    def handle(self, *args: Any, **options: Any) -> None:
        organization = self.organization(options)
        if options["verb"] == "set":
            secret_rules.check_name(options["name"])
            value = _read_value()
            secret_rules.check_value(value)
            if len(value) < SHORTEST:
                self.stderr.write(
                    f"{options['name']} has fewer than {SHORTEST} characters: it is masked only where it stands alone."
                )
            secret = Secret.objects.filter(organization=organization, name=options["name"]).first()
            secret = secret or Secret(organization=organization, name=options["name"])
            secret.value = value
            secret.save()
        elif options["verb"] == "delete":
            if not Secret.objects.filter(organization=organization, name=options["name"]).delete()[0]:
                raise CommandError(f"There is no secret {options['name']!r}.")
        else:
            found = Secret.objects.filter(organization=organization).order_by("name")
            if options["as_json"]:
                self.print_json([{"name": secret.name, "updatedAt": secret.updated_at} for secret in found])
                return
            rows = table("secret", "updated")
            for secret in found:
                rows.add_row(secret.name, f"{secret.updated_at:%Y-%m-%d %H:%M}")
            self.console.print(rows)


def _read_value() -> str:
    """From the terminal, without showing it, or standard input less the end of its last line. Raises CommandError."""
    try:
        return getpass.getpass("value: ") if sys.stdin.isatty() else sys.stdin.read().rstrip("\r\n")
    except UnicodeDecodeError:
        raise CommandError("The value is no text in UTF-8: nothing was stored.") from None
