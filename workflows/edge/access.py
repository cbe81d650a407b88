"""What a login may see and do: by its memberships (docs/howto/control_access.md).

Seeing: a login sees the organizations of which it, or a team of it (a Django group), is a member; a superuser is an
operator of the installation and sees all of them. Acting takes a right, on pages as in the admin: the role of the
membership brings it, or a Django permission that the login has. A permission alone, without a membership, brings
nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, TypedDict
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from workflows.errors import Forbidden, WorkflowsError
from workflows.models import Membership, Organization

RUN_FLOWS = "headrace_workflows.add_run"
"""Start flows by hand, and send events."""
CHANGE_RUNS = "headrace_workflows.change_run"
"""Cancel, replay, resume and fork runs; decide approvals that name nobody."""
CHANGE_LETTERS = "headrace_dlq.change_deadletter"
"""Replay, resume, ignore, assign, comment and snooze dead letters."""
STOP_FLOWS = "headrace_workflows.stop_flow"
"""Pause, drain and resume flows. (CHANGE_FLOWS includes it.)"""
CHANGE_FLOWS = "headrace_workflows.change_flow"
"""Publish and archive flows; see the addresses of their webhooks."""
DELETE_FLOWS = "headrace_workflows.delete_flow"
"""Delete flows with all their history. (Archiving one takes CHANGE_FLOWS.)"""
CHANGE_LIMITS = "headrace_throttling.change_throttleoverride"
"""Change the limits of the organization."""
CHANGE_ALERTS = "headrace_dlq.change_alertrule"
"""Change alert rules and where alerts go."""
CHANGE_KEYS = "headrace_workflows.change_accesskey"
"""Issue, rotate and revoke keys."""
CHANGE_SECRETS = "headrace_workflows.change_secret"
"""Store and delete secrets. Nobody reads one."""
CHANGE_ORGANIZATION = "headrace_workflows.change_organization"
"""Change the organization's members, retention and redaction, and read its audit log; decide in the place of others."""
WHAT = {
    RUN_FLOWS: "start flows and send events",
    CHANGE_RUNS: "change runs",
    CHANGE_LETTERS: "change dead letters",
    STOP_FLOWS: "pause and resume flows",
    CHANGE_FLOWS: "change flows",
    DELETE_FLOWS: "delete flows",
    CHANGE_LIMITS: "change limits",
    CHANGE_ALERTS: "change alerts",
    CHANGE_KEYS: "change keys",
    CHANGE_SECRETS: "change secrets",
    CHANGE_ORGANIZATION: "change the organization",
}
RIGHTS = {
    "run_flows": RUN_FLOWS,
    "change_runs": CHANGE_RUNS,
    "change_letters": CHANGE_LETTERS,
    "stop_flows": STOP_FLOWS,
    "change_flows": CHANGE_FLOWS,
    "delete_flows": DELETE_FLOWS,
    "change_limits": CHANGE_LIMITS,
    "change_alerts": CHANGE_ALERTS,
    "change_keys": CHANGE_KEYS,
    "change_secrets": CHANGE_SECRETS,
    "change_organization": CHANGE_ORGANIZATION,
}
"""The permission of each right, by the word that pages and key scopes use."""
Role = Membership.Role
_OPERATOR = frozenset({RUN_FLOWS, CHANGE_RUNS, CHANGE_LETTERS, STOP_FLOWS})
_EDITOR = _OPERATOR | {CHANGE_FLOWS, CHANGE_LIMITS, CHANGE_ALERTS}
RIGHTS_OF: Mapping[str, frozenset[str]] = {
    Role.VIEWER: frozenset(),
    Role.OPERATOR: _OPERATOR,
    Role.EDITOR: _EDITOR,
    Role.ADMIN: frozenset(RIGHTS.values()),
}
"""The permissions that each role brings, from the weakest role to the strongest."""
INCLUDED = {STOP_FLOWS: CHANGE_FLOWS}
"""A permission that another one includes."""
STRENGTH = [str(role) for role in RIGHTS_OF]
CHOSEN = "organization"
"""The key of a session under which the organization is kept that was chosen last."""
_ROLES = "_headrace_roles"
User = AbstractBaseUser | AnonymousUser


class NoOrganization(WorkflowsError):
    """There is no organization yet; `manage.py organization create <slug>` makes one."""

    status, code = 404, "organization_not_found"


# --- seeing ---------------------------------------------------------------------------------------------------------


def is_operator(user: User) -> bool:
    """Whether the login is an operator of the installation, who sees and may do everything everywhere."""
    return bool(getattr(user, "is_active", False) and getattr(user, "is_superuser", False))


def organizations_of(user: User) -> QuerySet[Organization]:
    """The organizations that a login sees."""
    return Organization.objects.all() if is_operator(user) else Organization.objects.filter(id__in=roles_of(user))


def organization_of(user: User, *, wanted: str = "") -> Organization:
    """The organization that a login sees: the oldest of its own, or the wanted one, by slug or id.

    Raises NoOrganization where the wanted one is none of its own or is not there (nothing tells which), and Forbidden
    for a login that is a member of none.
    """
    seen = organizations_of(user).order_by("created_at", "id")
    found = _named(seen, wanted) if wanted else seen.first()
    if found is not None:
        return found
    if not is_operator(user) and not roles_of(user):
        raise Forbidden(
            "Your login is a member of no organization: an admin of one adds it, on the page of the organization or by "
            "`manage.py organization add <login> --role viewer --org <slug>`."
        )
    raise NoOrganization(f"There is no organization {wanted!r} of yours.") if wanted else NoOrganization


def organization_of_request(request: HttpRequest) -> Organization:
    """The one of `?org=`; else the one that the session kept (`choose`); else the oldest that the login sees.

    Raises NoOrganization and Forbidden.
    """
    asked = request.GET.get("org", "")
    if asked:
        return organization_of(request.user, wanted=asked)
    try:
        return organization_of(request.user, wanted=request.session.get(CHOSEN, ""))
    except NoOrganization:  # the one that was chosen is gone, or is not the login's any more
        return organization_of(request.user)


def choose(request: HttpRequest, wanted: str) -> Organization:
    """Keep an organization in the session. Raises NoOrganization and Forbidden."""
    found = organization_of(request.user, wanted=wanted)
    request.session[CHOSEN] = str(found.id)
    return found


def _named(seen: QuerySet[Organization], wanted: str) -> Organization | None:
    if "\0" in wanted:
        return None
    by_slug = seen.filter(slug=wanted).first()
    try:
        return by_slug or seen.filter(id=UUID(wanted)).first()
    except ValueError:
        return None


# --- acting ---------------------------------------------------------------------------------------------------------


def roles_of(user: User) -> Mapping[UUID, str]:
    """By the id of each organization of which the login is a member, its strongest role there.

    It is read once for a login's object, which lives as long as a request.
    """
    known: dict[UUID, str] | None = getattr(user, _ROLES, None)
    if known is None:
        known = {}
        for organization_id, role in _memberships(user):
            known[organization_id] = max(role, known.get(organization_id, role), key=STRENGTH.index)
        setattr(user, _ROLES, known)
    return known


def _memberships(user: User) -> list[tuple[UUID, str]]:
    if not isinstance(user, AbstractBaseUser) or not user.is_active:
        return []
    theirs = Q(user=user.pk)
    if isinstance(user, PermissionsMixin):
        theirs |= Q(group__in=user.groups.all())
    return list(Membership.objects.filter(theirs).order_by().values_list("organization_id", "role"))


def seen_by(users: Collection[AbstractBaseUser]) -> dict[Any, set[UUID]]:
    """By a login's primary key, the ids of the organizations of which it is a member; in two statements for all."""
    seen: dict[Any, set[UUID]] = defaultdict(set)
    if not users:
        return seen
    keys = [user.pk for user in users]
    rows = list(Membership.objects.filter(user__in=keys).order_by().values_list("user", "organization_id"))
    logins = get_user_model()
    if issubclass(logins, PermissionsMixin):
        of_teams = "groups__headrace_memberships__organization_id"
        in_teams = logins._default_manager.filter(pk__in=keys, **{f"{of_teams}__isnull": False})
        rows += in_teams.values_list("pk", of_teams)
    for key, org_id in rows:
        seen[key].add(org_id)
    return seen


def require(user: User, permission: str, organization: Organization) -> None:
    """Raises Forbidden where the login lacks a permission in the organization."""
    if not allows(user, permission, organization):
        role = roles_of(user).get(organization.id, "no member")
        raise Forbidden(
            f"Your login may look at this, and not {WHAT.get(permission, permission)}: it is {role} of "
            f"{organization.slug}. {needed_role(permission).capitalize()}s may; an admin of the organization can give "
            f"it that role, or an operator can give it the permission {permission} in the admin."
        )


def needed_role(permission: str) -> str:
    """The weakest role that brings a permission."""
    return next((role for role in STRENGTH if permission in RIGHTS_OF[role]), str(Role.ADMIN))


def allows(user: User, permission: str, organization: Organization) -> bool:
    """Whether the login has a permission in the organization."""
    return allows_in(user, permission, organization.id)


def allows_in(user: User, permission: str, org_id: UUID) -> bool:
    """Whether the login has a permission in the organization of this id: by its role, or as a Django permission."""
    if is_operator(user):
        return True
    role = roles_of(user).get(org_id)
    if role is None:
        return False
    including = INCLUDED.get(permission, permission)
    return permission in RIGHTS_OF[role] or _has(user, permission) or _has(user, including)


def may_give(user: User, role: str, organization: Organization) -> bool:
    """Whether the login has all that a role brings, so that it may give that role, or take it away."""
    return all(allows(user, permission, organization) for permission in RIGHTS_OF.get(role, ()))


class MemberChanger(TypedDict):
    """How a login changes members: what the verbs of `services.tenancy.members` ask of their caller."""

    by: str
    may_give: Callable[[str], bool]
    as_operator: bool


def changes_members(user: User, organization: Organization) -> MemberChanger:
    """How the login changes members of the organization: as itself, and no further than its own rights reach."""
    return MemberChanger(
        by=f"user {user.get_username()}",
        may_give=partial(may_give, user, organization=organization),
        as_operator=is_operator(user),
    )


class KeyIssuer(TypedDict):
    """How a login issues keys: what the verbs of `services.access_keys` ask of their caller."""

    may: Callable[[str], bool]
    as_operator: bool


def issues_keys(user: User, organization: Organization) -> KeyIssuer:
    """How the login issues keys of the organization: with no right that it has not itself there."""
    return KeyIssuer(
        may=lambda word: allows(user, RIGHTS[word], organization),
        as_operator=is_operator(user),
    )


def allows_somewhere(user: User, permission: str) -> bool:
    """Whether the login has a permission in any organization."""
    return is_operator(user) or any(allows_in(user, permission, org_id) for org_id in roles_of(user))


def _has(user: User, permission: str) -> bool:
    return isinstance(user, PermissionsMixin) and user.has_perm(permission)


class Rights:
    """What a login may do in an organization, for templates: `request.may.change_runs`."""

    def __init__(self, user: User, organization: Organization) -> None:
        self._user = user
        self._organization = organization

    def __getitem__(self, word: str) -> bool:
        """Whether the login has the right of this word (`RIGHTS`)."""
        return allows(self._user, RIGHTS[word], self._organization)
