"""The members of an organization: logins and teams (Django groups) are added, given another role, and removed."""

from __future__ import annotations

from typing import Any

import structlog
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import transaction

from workflows.errors import InvalidInput, WorkflowsError
from workflows.models import Membership, Organization
from workflows.payload import text_fault

log = structlog.get_logger(__name__)
TEAM = "group:"
LOGIN = "user:"
ROLES = [str(role) for role in Membership.Role]


class MemberNotFound(WorkflowsError):
    """It is no member of this organization; `manage.py organization members` lists them."""

    status, code = 404, "member_not_found"


class LoginNotFound(WorkflowsError):
    """There is no such login; a Django user is made in the admin or by `manage.py createsuperuser`."""

    status, code = 404, "login_not_found"


class LastAdmin(WorkflowsError):
    """It is the last admin of the organization: make another member an admin first. (An operator of the installation
    may leave it without one.)"""

    status, code = 409, "last_admin"


def put(organization: Organization, member: str, role: str, *, by: str, as_operator: bool = False) -> Membership:
    """Make a login (`anna` or `user:anna`) or a team (`group:finance`) a member, or give the member another role.

    `as_operator`: it is done for the installation, so the last admin may become something else.
    Raises InvalidInput, LoginNotFound, LastAdmin.
    """
    if role not in ROLES:
        raise InvalidInput(f"role {role[:50]!r} is none: use {', '.join(ROLES)}.")
    who = _who(member)
    with transaction.atomic():
        _lock(organization)
        row = Membership.objects.filter(organization=organization, **who).first()
        before = row.role if row is not None else ""
        if row is None:
            row = Membership(organization=organization, role=role, added_by=by[:200], **who)
        elif before != role:
            if not as_operator:
                _keep_an_admin(row)
            row.role = role
        row.save()
    if before != role:
        log.info("a member's role is set", org=organization.slug, member=row.member, was=before, role=role, by=by)
    return row


def remove(organization: Organization, member: str, *, by: str, as_operator: bool = False) -> Membership:
    """End a membership. Raises MemberNotFound, LoginNotFound, LastAdmin."""
    who = _who(member)
    with transaction.atomic():
        _lock(organization)
        row = get(organization, **who)
        if not as_operator:
            _keep_an_admin(row)
        Membership.objects.filter(pk=row.pk).delete()
    log.info("a member is removed", org=organization.slug, member=row.member, was=row.role, by=by)
    return row


def check(member: str) -> None:
    """Raises InvalidInput or LoginNotFound where the name is that of no login and no team."""
    _who(member)


def find(organization: Organization, member: str) -> Membership | None:
    """The membership of a login or a team; None where it is none. Raises LoginNotFound."""
    return Membership.objects.filter(organization=organization, **_who(member)).first()


def get(organization: Organization, **who: Any) -> Membership:
    """The membership. Raises MemberNotFound."""
    found = Membership.objects.select_related("user", "group").filter(organization=organization, **who).first()
    if found is None:
        raise MemberNotFound
    return found


def _lock(organization: Organization) -> None:
    """Changes of the members of an organization come one after the other: two admins can't remove each other."""
    Organization.objects.select_for_update().filter(pk=organization.pk).first()


def _keep_an_admin(row: Membership) -> None:
    admins = Membership.objects.filter(organization_id=row.organization_id, role=Membership.Role.ADMIN)
    if row.role == Membership.Role.ADMIN and not admins.exclude(pk=row.pk).exists():
        raise LastAdmin


def _who(member: str) -> dict[str, Any]:
    """The login or the team of a name, as columns of its membership."""
    name = member.strip()
    if not name or len(name) > 200 or text_fault(name):
        raise InvalidInput("Name a login (anna, or user:anna) or a team (group:finance), in at most 200 characters.")
    if name.startswith(TEAM):
        team = Group.objects.filter(name=name.removeprefix(TEAM)).first()
        if team is None:
            raise LoginNotFound(f"There is no group {name.removeprefix(TEAM)!r}; an operator makes one in the admin.")
        return {"group": team}
    logins = get_user_model()
    try:
        return {"user": logins._default_manager.get_by_natural_key(name.removeprefix(LOGIN))}
    except logins.DoesNotExist:
        raise LoginNotFound(f"There is no login {name.removeprefix(LOGIN)!r} here; an operator makes one.") from None
