"""Saved views of the run list. A view belongs to one login in one organization."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from workflows.errors import InvalidInput
from workflows.models import Organization, SavedView
from workflows.payload import text_fault

MAX_VIEWS = 50
MAX_NAME = 80
MAX_QUERY = 2_000


def of(organization: Organization, user_id: int) -> list[SavedView]:
    """The views of a login, by name."""
    return list(SavedView.objects.filter(organization=organization, user_id=user_id))


def save(organization: Organization, user_id: int, name: str, query: str) -> SavedView:
    """Keep a view under a name; one that has the name is replaced. Raises InvalidInput."""
    name = name.strip()
    if not 1 <= len(name) <= MAX_NAME or text_fault(name):
        raise InvalidInput(f"name: give the view a name of 1 to {MAX_NAME} characters.")
    if len(query) > MAX_QUERY or text_fault(query):
        raise InvalidInput(f"The filters are too long to be saved: {MAX_QUERY:,} characters of address are kept.")
    with transaction.atomic():
        mine = SavedView.objects.filter(organization=organization, user_id=user_id)
        if not mine.filter(name=name).exists() and mine.count() >= MAX_VIEWS:
            raise InvalidInput(f"You have {MAX_VIEWS} views: delete one first.")
        view, _ = SavedView.objects.update_or_create(
            organization=organization, user_id=user_id, name=name, defaults={"query": query}
        )
    return view


def delete(organization: Organization, user_id: int, view_id: UUID) -> bool:
    """Delete a view of the login. Returns whether there was one."""
    removed, _ = SavedView.objects.filter(organization=organization, user_id=user_id, id=view_id).delete()
    return bool(removed)
