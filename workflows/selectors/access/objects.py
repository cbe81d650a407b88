"""Which of the objects that audit entries name are still there."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db.models import Model

from workflows.models import Organization


def still_there(
    organization: Organization, model: type[Model], ids: Sequence[str], *, field: str, owner: str
) -> set[str]:
    """Those of the ids that a row of the organization has in `field`; `owner`: the field of its organization."""
    wanted = [each for each in ids if field != "id" or _is_uuid(each)]
    rows = model._default_manager.filter(**{owner: organization.id, f"{field}__in": wanted})
    return {str(value) for value in rows.values_list(field, flat=True)}


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
