"""What a login may see and do until there are roles and memberships (docs/howto/control_access.md).

Seeing: a superuser sees any organization; another login sees the only one, and none where there are several, since
nothing says which is its own. Acting takes a Django permission, on pages as in the admin.
"""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin

from workflows.errors import Forbidden, WorkflowsError
from workflows.models import Organization

RUN_FLOWS = "headrace_workflows.add_run"
"""Start flows by hand, and send events."""
CHANGE_RUNS = "headrace_workflows.change_run"
"""Cancel, replay, resume and fork runs; decide approvals that name nobody."""
CHANGE_LETTERS = "headrace_dlq.change_deadletter"
"""Replay, resume, ignore, assign, comment and snooze dead letters."""
CHANGE_FLOWS = "headrace_workflows.change_flow"
"""Publish flows; pause, drain and resume them; see the addresses of their webhooks."""
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
"""Change the organization's members, quotas, retention and redaction, and read its audit log."""
WHAT = {
    RUN_FLOWS: "start flows and send events",
    CHANGE_RUNS: "change runs",
    CHANGE_LETTERS: "change dead letters",
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
    "change_flows": CHANGE_FLOWS,
    "delete_flows": DELETE_FLOWS,
    "change_limits": CHANGE_LIMITS,
    "change_alerts": CHANGE_ALERTS,
    "change_keys": CHANGE_KEYS,
    "change_secrets": CHANGE_SECRETS,
    "change_organization": CHANGE_ORGANIZATION,
}
"""The permission of each right, by the word that pages and key scopes use."""
User = AbstractBaseUser | AnonymousUser


class NoOrganization(WorkflowsError):
    """There is no organization yet; `manage.py organization create <slug>` makes one."""

    status, code = 404, "organization_not_found"


def organization_of(user: User, *, wanted: str = "") -> Organization:
    """The organization that a login sees; a superuser may want another one than the oldest, by slug or id.

    Raises Forbidden for another login where there are several organizations, and NoOrganization.
    """
    found = list(Organization.objects.order_by("created_at")[:2])
    if not found:
        raise NoOrganization
    if not getattr(user, "is_superuser", False) and len(found) > 1:
        raise Forbidden(
            "There are several organizations here, and nothing says yet which of them is yours: until there are "
            "memberships, only superusers see pages. Ask an operator, or use an API key of your organization."
        )
    if wanted in {"", found[0].slug, str(found[0].id)}:
        return found[0]
    other = _named(wanted) if getattr(user, "is_superuser", False) else None
    if other is None:
        raise NoOrganization(f"There is no organization {wanted!r}.")
    return other


def _named(wanted: str) -> Organization | None:
    if "\0" in wanted:
        return None
    by_slug = Organization.objects.filter(slug=wanted).first()
    try:
        return by_slug or Organization.objects.filter(id=UUID(wanted)).first()
    except ValueError:
        return None


def require(user: User, permission: str, organization: Organization) -> None:
    """Raises Forbidden where the login lacks a permission in the organization."""
    if not allows(user, permission, organization):
        raise Forbidden(
            f"Your login may look at this, and not {WHAT[permission]}: an operator can give it the permission "
            f"{permission} in the admin."
        )


def allows(user: User, permission: str, organization: Organization) -> bool:
    """Whether the login has a permission in the organization. (Until there are memberships: in each.)"""
    del organization
    return isinstance(user, PermissionsMixin | AnonymousUser) and user.has_perm(permission)


class Rights:
    """What a login may do in an organization, for templates: `request.may.change_runs`."""

    def __init__(self, user: User, organization: Organization) -> None:
        self._user = user
        self._organization = organization

    def __getitem__(self, word: str) -> bool:
        """Whether the login has the right of this word (`RIGHTS`)."""
        return allows(self._user, RIGHTS[word], self._organization)
