"""What a login may see and do until there are roles and memberships (docs/howto/control_access.md).

Seeing: a superuser sees any organization; another login sees the only one, and none where there are several, since
nothing says which is its own. Acting takes a Django permission, on pages as in the admin.
"""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin

from workflows.errors import Forbidden, WorkflowsError
from workflows.models import Organization

CHANGE_RUNS = "headrace_workflows.change_run"
"""Cancel, replay and resume runs; decide approvals that name nobody."""
CHANGE_FLOWS = "headrace_workflows.change_flow"
"""Pause, drain and resume flows; see the addresses of their webhooks."""
DELETE_FLOWS = "headrace_workflows.delete_flow"
"""Delete flows with all their history. (Archiving one takes CHANGE_FLOWS.)"""
WHAT = {CHANGE_RUNS: "change runs", CHANGE_FLOWS: "change flows", DELETE_FLOWS: "delete flows"}
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


def require(user: User, permission: str) -> None:
    """Raises Forbidden where the login lacks a permission."""
    if not allows(user, permission):
        raise Forbidden(
            f"Your login may look at this, and not {WHAT[permission]}: an operator can give it the permission "
            f"{permission} in the admin."
        )


def allows(user: User, permission: str) -> bool:
    """Whether the login has a permission."""
    return isinstance(user, PermissionsMixin | AnonymousUser) and user.has_perm(permission)
