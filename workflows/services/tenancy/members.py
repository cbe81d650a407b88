"""The members of an organization: logins and teams (Django groups) are added, given another role, and removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, PermissionsMixin
from django.db import transaction
from django.db.models import Q

from workflows.errors import Forbidden, InvalidInput, WorkflowsError
from workflows.models import Membership, Organization
from workflows.payload import text_fault
from workflows.services.access import changes

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
    """It is the last admin of the organization that can log in: make another member an admin first. (An operator of the
    installation may leave it without one.)"""

    status, code = 409, "last_admin"


def any_role(role: str) -> bool:
    """True: a person at the command line may give every role."""
    return True


def put(
    organization: Organization,
    member: str,
    role: str,
    *,
    by: str,
    may_give: Callable[[str], bool],
    as_operator: bool = False,
) -> Membership:
    """Make a login (`anna` or `user:anna`) or a team (`group:finance`) a member, or give the member another role.

    `may_give`: whether the caller may give a role, or take it away; asked of the new role and of the stored one.
    `as_operator`: it is done for the installation, so the last admin may become something else.
    Raises InvalidInput, LoginNotFound, Forbidden, LastAdmin.
    """
    if role not in ROLES:
        raise InvalidInput(f"role {role[:50]!r} is none: use {', '.join(ROLES)}.")
    who = _who(member)
    with transaction.atomic():
        _lock(organization)
        row = Membership.objects.filter(organization=organization, **who).first()
        before = row.role if row is not None else ""
        _check_reach(may_give, role, before)
        if row is None:
            row = Membership(organization=organization, role=role, added_by=by[:200], **who)
        elif before != role:
            if not as_operator:
                _keep_an_admin(row)
            row.role = role
        row.save()
    changes.tell({"role": before}, {"role": role})
    if before != role:
        log.info("a member's role is set", org=organization.slug, member=row.member, was=before, role=role, by=by)
    return row


def remove(
    organization: Organization, member: str, *, by: str, may_give: Callable[[str], bool], as_operator: bool = False
) -> Membership:
    """End a membership. Raises MemberNotFound, LoginNotFound, Forbidden, LastAdmin."""
    who = _who(member)
    with transaction.atomic():
        _lock(organization)
        row = get(organization, **who)
        _check_reach(may_give, row.role)
        if not as_operator:
            _keep_an_admin(row)
        Membership.objects.filter(pk=row.pk).delete()
    changes.tell({"role": row.role}, {"role": ""})
    log.info("a member is removed", org=organization.slug, member=row.member, was=row.role, by=by)
    return row


def check(member: str) -> None:
    """Raises InvalidInput or LoginNotFound where the name is that of no login and no team."""
    _who(member)


def get(organization: Organization, **who: Any) -> Membership:
    """The membership. Raises MemberNotFound."""
    found = Membership.objects.select_related("user", "group").filter(organization=organization, **who).first()
    if found is None:
        raise MemberNotFound
    return found


def _lock(organization: Organization) -> None:
    """Changes of the members of an organization come one after the other: two admins can't remove each other."""
    Organization.objects.select_for_update().filter(pk=organization.pk).first()


def _check_reach(may_give: Callable[[str], bool], *roles: str) -> None:
    """Raises Forbidden where one of the roles is stronger than what the caller has."""
    for role in roles:
        if role and not may_give(role):
            raise Forbidden(f"Your rights do not reach as far as the role {role}: an admin of the organization may.")


def _keep_an_admin(row: Membership) -> None:
    """Raises LastAdmin where no other admin can log in: a deactivated login is none, nor is a team without members."""
    if row.role != Membership.Role.ADMIN:
        return
    others = Membership.objects.filter(organization_id=row.organization_id, role=row.role).exclude(pk=row.pk)
    can_log_in = Q(user__is_active=True)
    if issubclass(get_user_model(), PermissionsMixin):
        can_log_in |= Q(group__user__is_active=True)
    if not others.filter(can_log_in).exists():
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
