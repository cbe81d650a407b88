"""Changing the redaction rules of an organization."""

from __future__ import annotations

from collections.abc import Collection

from workflows import this_process
from workflows.edge import redaction
from workflows.models import Organization
from workflows.services.access import changes


def set_rules(organization: Organization, rules: Collection[str]) -> list[str]:
    """The rules that hold from now on: in this process at once, in all others within seconds. Raises InvalidInput."""
    checked = redaction.checked(rules)
    before = Organization.objects.filter(id=organization.id).values_list("redaction", flat=True).first()
    changes.tell({"rules": before}, {"rules": checked})
    Organization.objects.filter(id=organization.id).update(redaction=checked)
    this_process.forget(redaction.KnownRules)
    this_process.forget(redaction.AnyRules)
    return checked
