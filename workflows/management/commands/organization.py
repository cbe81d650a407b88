"""`organization create | list | key | members | add | remove | quotas`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.validators import validate_slug

from workflows.management.output import HeadraceCommand, table
from workflows.models import AccessKey, Organization
from workflows.presenters.tenancy import member_out, quota_out
from workflows.selectors.tenancy import members as member_selectors
from workflows.selectors.tenancy import quotas as quota_selectors
from workflows.services.tenancy import members, quotas

MEMBER = "a login (anna, or user:anna) or a team (group:finance)"
BY = "by command"


class Command(HeadraceCommand):
    help = "Make organizations, their keys, members and quotas. A key is shown this once."

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
        self.add_verb(verbs, "members", "list who belongs to the organization of --org, and in which role")
        add = self.add_verb(verbs, "add", "make a login or a team a member, or give it another role")
        add.add_argument("member", help=MEMBER)
        add.add_argument("--role", choices=members.ROLES, default="viewer", help="what it may do (default: viewer)")
        remove = self.add_verb(verbs, "remove", "end a membership")
        remove.add_argument("member", help=MEMBER)
        of_quotas = self.add_verb(verbs, "quotas", "show the quotas and what is used of them, or set some; 0: no quota")
        of_quotas.add_argument("--events-per-second", type=int, help="events and runs from outside in a second")
        of_quotas.add_argument("--concurrent-steps", type=int, help="steps at once")
        of_quotas.add_argument("--stored-bytes", type=int, help="bytes of payloads")

    def handle(self, *args: Any, **options: Any) -> None:
        verbs = {
            "create": self._create,
            "key": self._key,
            "list": self._list,
            "members": self._members,
            "add": self._add,
            "remove": self._remove,
            "quotas": self._quotas,
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

    def _members(self, options: dict[str, Any]) -> None:
        found = member_selectors.members(self.organization(options), limit=member_selectors.EVERY)
        if options["as_json"]:
            self.print_json([member_out(each) for each in found.members])
            return
        rows = table("member", "role", "since", "added by")
        for each in found.members:
            rows.add_row(each.member, each.role, f"{each.created_at:%Y-%m-%d}", each.added_by)
        self.console.print(rows)

    def _add(self, options: dict[str, Any]) -> None:
        organization = self.organization(options)
        row = members.put(organization, options["member"], options["role"], by=BY, as_operator=True)
        self._show({"organization": organization.slug, "member": row.member, "role": row.role}, options)

    def _remove(self, options: dict[str, Any]) -> None:
        organization = self.organization(options)
        row = members.remove(organization, options["member"], by=BY, as_operator=True)
        self._show({"organization": organization.slug, "removed": row.member, "role": row.role}, options)

    def _quotas(self, options: dict[str, Any]) -> None:
        organization = self.organization(options)
        given = {
            "events_per_s": options["events_per_second"],
            "concurrent_steps": options["concurrent_steps"],
            "stored_bytes": options["stored_bytes"],
        }
        new = {name: value for name, value in given.items() if value is not None}
        if any(value < 0 for value in new.values()):
            raise CommandError("A quota is a whole number; 0 takes it away.")
        if new:
            quotas.set_quotas(organization, **new, by=BY)
        found = quota_selectors.quotas(organization)
        if options["as_json"]:
            self.print_json([quota_out(each) for each in found])
            return
        rows = table("quota", "at most", "used", "of")
        for each in found:
            used = "" if each.used is None else f"{each.used:,}"
            rows.add_row(each.name, "any" if each.most is None else f"{each.most:,}", used, each.what)
        self.console.print(rows)
