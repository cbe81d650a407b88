"""How long things are kept: set a rule, or take it back."""

from __future__ import annotations

from django.db import transaction

from workflows.engine.retention.rules import Rules
from workflows.engine.retention.subjects import checked_days, subject_of
from workflows.errors import InvalidInput
from workflows.models import Organization, RetentionRule
from workflows.services.access import changes

MAX_BY = 200


def set_rule(organization: Organization | None, subject: str, days: object, *, by: str) -> RetentionRule:
    """Keep a subject for so many days (None or "forever": for ever), in an organization, or with None in all that have
    no rule of their own. A pass that is under way keeps what is to be kept for longer within half a minute; what may go
    sooner goes with the next pass.

    Raises InvalidInput for an unknown subject, days out of range, and a subject that has no rules by organization.
    """
    _check_place(organization, subject)
    kept = checked_days(days)
    before = _kept(organization, subject)
    with transaction.atomic():
        rule, _ = RetentionRule.objects.update_or_create(
            organization=organization, subject=subject, defaults={"days": kept, "changed_by": by[:MAX_BY]}
        )
    changes.tell(before, _kept(organization, subject))
    return rule


def clear_rule(organization: Organization | None, subject: str, *, by: str) -> bool:
    """Take a rule back: the one for all, the environment or the default holds again. Returns whether there was one.

    Raises InvalidInput for an unknown subject, and one that has no rules by organization.
    """
    del by
    _check_place(organization, subject)
    before = _kept(organization, subject)
    deleted, _ = RetentionRule.objects.filter(organization=organization, subject=subject).delete()
    changes.tell(before, _kept(organization, subject))
    return bool(deleted)


def _kept(organization: Organization | None, subject: str) -> dict[str, object]:
    """How long a subject is kept there now, and who says so: for the audit log."""
    kept = Rules().kept(subject, organization.id if organization is not None else None)
    return {"days": "forever" if kept.days is None else kept.days, "source": kept.source}


def _check_place(organization: Organization | None, subject: str) -> None:
    """Raises InvalidInput."""
    if organization is not None and not subject_of(subject).by_organization:
        raise InvalidInput(f"{subject} is kept by one rule for all organizations: an operator sets it.")
    subject_of(subject)
