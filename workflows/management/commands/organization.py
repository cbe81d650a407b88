"""`organization create | list | key`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.validators import validate_slug

from workflows.management.output import HeadraceCommand, table
from workflows.models import AccessKey, Organization


class Command(HeadraceCommand):
    help = "Make organizations and their keys. A key is shown this once."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        verbs = parser.add_subparsers(dest="verb", required=True)
        create = self.add_verb(verbs, "create", "make an organization, with an API key and an event key")
        create.add_argument("slug", help="its address: letters, digits, - and _")
        create.add_argument("--name", default="", help="its name (default: the slug)")
        key = self.add_verb(verbs, "key", "issue another key for the organization of --org")
        key.add_argument("kind", choices=AccessKey.Kind.values, help="what it is for")
        key.add_argument("--name", default="by hand", help="what to recognise it by")
        key.add_argument("--operator", action="store_true", help="it may change limits that hold for all organizations")
        self.add_verb(verbs, "list", "list the organizations")

    def handle(self, *args: Any, **options: Any) -> None:
        verbs = {
            "create": self._create,
            "key": self._key,
            "list": self._list,
        }
        verbs[options["verb"]](options)

    def _create(self, options: dict[str, Any]) -> None:
        validate_slug(options["slug"])
        made, new = Organization.objects.get_or_create(
            slug=options["slug"], defaults={"name": options["name"] or options["slug"]}
        )
        if not new:
            raise CommandError(
                f"There is an organization {made.slug!r} already; `organization key` issues keys for it."
            )
        keys = {kind: AccessKey.issue(made, kind, "first")[1] for kind in AccessKey.Kind.values}
        self._show({"organization": made.slug, "apiKey": keys["api"], "eventKey": keys["event"]}, options)

    def _key(self, options: dict[str, Any]) -> None:
        organization = self.organization(options)
        key = AccessKey.issue(organization, options["kind"], options["name"], operator=options["operator"])[1]
        self._show({"key": key}, options)

    def _show(self, values: dict[str, str], options: dict[str, Any]) -> None:
        if options["as_json"]:
            self.print_json(values)
        else:
            for name, value in values.items():
                self.stdout.write(f"{name}: {value}")

    def _list(self, options: dict[str, Any]) -> None:
        found = Organization.objects.all()
        if options["as_json"]:
            self.print_json([{"slug": each.slug, "name": each.name, "createdAt": each.created_at} for each in found])
            return
        rows = table("organization", "name", "created")
        for each in found:
            rows.add_row(each.slug, each.name, f"{each.created_at:%Y-%m-%d}")
        self.console.print(rows)
