"""`organization create | list | members | add | remove | quotas | redaction`, and of keys `key | keys | rotate-key |
revoke-key | rename-key`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.core.management.base import CommandError, CommandParser
from django.core.validators import validate_slug
from django.utils import timezone

from workflows.duration import parse_ms
from workflows.edge import access
from workflows.edge.values import moment
from workflows.errors import KeyNotFound
from workflows.management.output import READS, HeadraceCommand, table
from workflows.models import AccessKey, Organization
from workflows.presenters.access import key_out
from workflows.presenters.tenancy import member_out, quota_out
from workflows.selectors.access import keys as key_selectors
from workflows.selectors.tenancy import members as member_selectors
from workflows.selectors.tenancy import quotas as quota_selectors
from workflows.services import access_keys
from workflows.services.access import redacting
from workflows.services.tenancy import members, quotas

MEMBER = "a login (anna, or user:anna) or a team (group:finance)"
BY = "by command"


class Command(HeadraceCommand):
    help = "Make organizations, their keys, members, quotas and redaction rules. A key is shown this once."
    changes = ("create", "key", "rotate-key", "revoke-key", "rename-key", "redaction", "add", "remove", "quotas")
    not_audited: ClassVar[Mapping[str, str]] = {"list": READS, "keys": READS, "members": READS}

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
        key.add_argument(
            "--scope", action="append", default=[], help=f"a right, of: {', '.join(access.RIGHTS)} (default: all)"
        )
        key.add_argument("--expires", default="", help="a time such as 2027-01-31T00:00:00Z, or in how long: 90d")
        keys = self.add_verb(verbs, "keys", "list the keys of the organization of --org")
        keys.add_argument("--ended", action="store_true", help="those that are revoked or have expired too")
        rotate = self.add_verb(verbs, "rotate-key", "issue the successor of a key; the old one expires")
        rotate.add_argument("key", help="its id, or the characters that it begins with")
        rotate.add_argument("--overlap", default="24h", help="for how long the old one still holds (default: 24h)")
        revoke = self.add_verb(verbs, "revoke-key", "refuse a key from now on")
        revoke.add_argument("key", help="its id, or the characters that it begins with")
        rename = self.add_verb(verbs, "rename-key", "give a key another name")
        rename.add_argument("key", help="its id, or the characters that it begins with")
        rename.add_argument("name", help="what to recognise it by")
        redaction = self.add_verb(verbs, "redaction", "show or replace the fields whose values nobody is shown")
        redaction.add_argument("rules", nargs="*", help="names or paths, like password or data.card.number")
        redaction.add_argument("--clear", action="store_true", help="remove all rules")
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
            "keys": self._keys,
            "rotate-key": self._rotate,
            "revoke-key": self._revoke,
            "rename-key": self._rename,
            "redaction": self._redaction,
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
        self.doing("organization", made.slug, owner=made)
        keys = {kind: access_keys.issue(made, kind, "first")[1] for kind in AccessKey.Kind.values}
        self._show({"organization": made.slug, "apiKey": keys["api"], "eventKey": keys["event"]}, options)

    def _key(self, options: dict[str, Any]) -> None:
        row, key = access_keys.issue(
            self.organization(options),
            options["kind"],
            options["name"],
            scopes=options["scope"],
            operator=options["operator"],
            expires_at=_expiry(options["expires"]),
            as_operator=True,
        )
        self.doing("key", row.id)
        self._show({"key": key, "id": str(row.id)}, options)

    def _keys(self, options: dict[str, Any]) -> None:
        found = key_selectors.keys(self.organization(options), ended=options["ended"])
        if options["as_json"]:
            self.print_json([key_out(each) for each in found])
            return
        rows = table("key", "kind", "name", "scopes", "created", "expires", "last used", "id")
        for each in found:
            scopes = ", ".join(each.scopes) or "all" if each.kind == AccessKey.Kind.API else ""
            shown = "operator: " + scopes if each.operator else scopes
            ends = f"revoked {each.revoked_at:%Y-%m-%d}" if each.revoked_at else _day(each.expires_at)
            used = _day(each.last_used_at)
            rows.add_row(
                f"{each.prefix}…", each.kind, each.name, shown, _day(each.created_at), ends, used, str(each.id)
            )
        self.console.print(rows)

    def _rotate(self, options: dict[str, Any]) -> None:
        organization = self.organization(options)
        overlap = dt.timedelta(milliseconds=_milliseconds(options["overlap"], "--overlap"))
        rotated = _id_of(organization, options["key"])
        self.doing("key", rotated)
        row, key = access_keys.rotate(organization, rotated, overlap=overlap, as_operator=True)
        self._show({"key": key, "id": str(row.id)}, options)

    def _revoke(self, options: dict[str, Any]) -> None:
        organization = self.organization(options)
        row = access_keys.revoke(organization, _id_of(organization, options["key"]))
        self.doing("key", row.id)
        self._show({"revoked": str(row)}, options)

    def _rename(self, options: dict[str, Any]) -> None:
        organization = self.organization(options)
        renamed = _id_of(organization, options["key"])
        self.doing("key", renamed)
        row = access_keys.rename(organization, renamed, options["name"])
        self._show({"renamed": str(row)}, options)

    def _redaction(self, options: dict[str, Any]) -> None:
        organization = self.organization(options)
        self.doing("organization", organization.slug)
        if options["rules"] or options["clear"]:
            rules = redacting.set_rules(organization, [] if options["clear"] else options["rules"])
        else:
            self.changed_nothing()
            rules = list(organization.redaction)
        if options["as_json"]:
            self.print_json({"rules": rules})
        else:
            self.stdout.write("\n".join(rules) or "There are no rules.")

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
        row = members.put(
            organization, options["member"], options["role"], by=BY, may_give=members.any_role, as_operator=True
        )
        self.doing("member", row.member)
        self._show({"organization": organization.slug, "member": row.member, "role": row.role}, options)

    def _remove(self, options: dict[str, Any]) -> None:
        organization = self.organization(options)
        row = members.remove(organization, options["member"], by=BY, may_give=members.any_role, as_operator=True)
        self.doing("member", row.member)
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
            self.doing("organization", organization.slug)
            quotas.set_quotas(organization, **new, by=BY)
        else:
            self.changed_nothing()
        found = quota_selectors.quotas(organization)
        if options["as_json"]:
            self.print_json([quota_out(each) for each in found])
            return
        rows = table("quota", "at most", "used", "of")
        for each in found:
            used = "" if each.used is None else f"{each.used:,}"
            rows.add_row(each.name, "any" if each.most is None else f"{each.most:,}", used, each.what)
        self.console.print(rows)


def _day(at: dt.datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else ""


def _milliseconds(text: str, name: str) -> int:
    try:
        return parse_ms(text)
    except ValueError as error:
        raise CommandError(f"{name}: {error}") from None


def _expiry(text: str) -> dt.datetime | None:
    """A time, or in how long it is; None for an empty text."""
    if not text:
        return None
    if text[:1].isdigit() and "-" not in text:
        return timezone.now() + dt.timedelta(milliseconds=_milliseconds(text, "--expires"))
    return moment(text, "--expires")


def _id_of(organization: Organization, text: str) -> UUID:
    """The key of an id, or the only one that begins so. Raises KeyNotFound."""
    try:
        return UUID(text)
    except ValueError:
        found = AccessKey.objects.filter(organization=organization, prefix=text.rstrip("…")[:14])
        ids = list(found.values_list("id", flat=True)[:2])
    if len(ids) != 1:
        raise KeyNotFound(f"{text!r} is the beginning of no key, or of several; `organization keys` shows their ids.")
    return ids[0]
