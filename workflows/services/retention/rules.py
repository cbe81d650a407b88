"""How long things are kept: set a rule, or take it back."""

from __future__ import annotations

import structlog
from django.db import IntegrityError, transaction

from workflows.engine.retention.rules import Rules
from workflows.engine.retention.subjects import checked_days, subject_of
from workflows.errors import InvalidInput, WorkflowsError
from workflows.models import Organization, RetentionRule
from workflows.services.access import changes

log = structlog.get_logger(__name__)
MAX_BY = 200


class RuleChanged(WorkflowsError):
    """The rule was changed since you looked: nothing was done; look again."""

    status, code = 409, "retention_rule_changed"


def set_rule(
    organization: Organization | None, subject: str, days: object, *, by: str, seen: str | None = None
) -> RetentionRule:
    """Keep a subject for so many days (None or "forever": for ever), in an organization, or with None in all that have
    no rule of their own. A pass that is under way keeps what is to be kept for longer within half a minute; what may go
    sooner goes with the next pass.

    `seen`: of the rule that the caller knows of there (`RetentionRule.seen`); empty: there was none.
    Raises RuleChanged, InvalidInput for an unknown subject, days out of range, and a subject that has no rules by
    organization.
    """
    kept = check(organization, subject, days)
    before = _kept(organization, subject)
    with transaction.atomic():
        rule = _seen(organization, subject, seen)
        if rule is None:
            rule = RetentionRule(organization=organization, subject=subject)
        rule.days, rule.changed_by = kept, by[:MAX_BY]
        try:
            with transaction.atomic():
                rule.save()
        except IntegrityError:  # another has made the first one just now
            raise RuleChanged(f"The rule for {subject} was set by another just now: look again.") from None
    changes.tell(before, _kept(organization, subject))
    return rule


def clear_rule(organization: Organization | None, subject: str, *, by: str, seen: str | None = None) -> bool:
    """Take a rule back: the one for all, the environment or the default holds again. Returns whether there was one.

    `seen`: as for `set_rule`. Raises RuleChanged, InvalidInput for an unknown subject, and one that has no rules by
    organization.
    """
    check_place(organization, subject)
    before = _kept(organization, subject)
    with transaction.atomic():
        rule = _seen(organization, subject, seen)
        if rule is None:
            return False
        rule.delete()
    changes.tell(before, _kept(organization, subject))
    log.info("a rule of retention is taken back", org=organization.slug if organization else "", subject=subject, by=by)
    return True


def _seen(organization: Organization | None, subject: str, seen: str | None) -> RetentionRule | None:
    """The rule that is stored, locked. Raises RuleChanged where it is not the one that was seen."""
    rows = RetentionRule.objects.select_for_update().filter(organization=organization, subject=subject)
    rule = rows.order_by().first()
    if seen is not None and seen != (rule.seen if rule is not None else ""):
        by = f" by {rule.changed_by}" if rule is not None else ""
        raise RuleChanged(f"The rule for {subject} was changed{by} since you looked: nothing was done; look again.")
    return rule


def _kept(organization: Organization | None, subject: str) -> dict[str, object]:
    """How long a subject is kept there now, and who says so: for the audit log."""
    kept = Rules().kept(subject, organization.id if organization is not None else None)
    return {"days": "forever" if kept.days is None else kept.days, "source": kept.source}


def check(organization: Organization | None, subject: str, days: object) -> float | None:
    """The days as they are stored. Raises InvalidInput for what can't be a rule there."""
    check_place(organization, subject)
    return checked_days(days)


def check_place(organization: Organization | None, subject: str) -> None:
    """Raises InvalidInput for an unknown subject, and for one that has no rules by organization."""
    if not subject_of(subject).by_organization and organization is not None:
        raise InvalidInput(
            f"{subject} is kept by one rule for all organizations, which an operator sets: name no organization."
        )
