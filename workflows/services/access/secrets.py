"""Storing and deleting secrets, and writing everything that is encrypted anew with the newest key."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.apps import apps
from django.db import IntegrityError, models, transaction

from workflows.engine.state import secret_sources
from workflows.errors import AlreadyDone, ConfigurationFailure, WorkflowsError
from workflows.models import Organization, Secret
from workflows.models.encryption import decrypt, encrypt, is_newest
from workflows.payload import text_fault
from workflows.selectors.access.secrets import LeftWithout, left_without
from workflows.services.access import changes
from workflows.steps import secret_rules

BATCH = 100
MOST_NAMED = 100
SHOWN_FLOWS = 5


class SecretNotFound(WorkflowsError):
    """There is no such secret in the database; `manage.py secret list` shows what there is."""

    status, code = 404, "secret_not_found"


class SecretInUse(WorkflowsError):
    """Flows name the secret, and no other source is known to have it: take it out of them first, or delete it with
    force."""

    status, code = 409, "secret_in_use"

    def __init__(self, name: str, left: LeftWithout) -> None:
        named, what = left.flows, "no other source has it: their steps would fail."
        if left.unread_sources:
            what = f"whether another source has it is not known: {left.why_unread}"
        more = f" and {len(named) - SHOWN_FLOWS} more" if len(named) > SHOWN_FLOWS else ""
        super().__init__(
            f"The secret {name} is used by {', '.join(named[:SHOWN_FLOWS])}{more}, and {what} "
            "Take it out of them first, or delete it with force."
        )
        self.facts = {"flows": ", ".join(named[:MOST_NAMED])}


class SecretChanged(AlreadyDone):
    """The secret was changed meanwhile: look again before you change it."""

    status, code = 409, "secret_changed"


def set_secret(organization: Organization, name: str, value: str, *, seen: str | None = None) -> Secret:
    """Store a secret, or its new value. Raises InvalidInput, SecretChanged.

    `seen`: of the value that the caller knows of, when it was written; empty: there was none.
    """
    secret_rules.check_name(name)
    secret_rules.check_value(value)
    with transaction.atomic():
        rows = Secret.objects.select_for_update().filter(organization=organization, name=name)
        found = rows.first()
        if seen is not None and seen != (found.updated_at.isoformat() if found is not None else ""):
            raise SecretChanged(
                f"The secret {name} was changed since your page was made: nothing was stored; look again."
            )
        secret = found or Secret(organization=organization, name=name)
        secret.value = value
        try:
            with transaction.atomic():
                secret.save()
        except IntegrityError:  # another has stored the first value of this name just now
            raise SecretChanged(f"The secret {name} was stored by another just now: look again.") from None
    changes.tell({"stored": found is not None}, {"stored": True})
    transaction.on_commit(lambda: secret_sources.forget(organization.id), robust=True)
    return secret


def delete_secret(
    organization: Organization, name: str, *, force: bool = False, seen: Collection[str] = ()
) -> LeftWithout:
    """Delete a secret of the database. Returns who uses it and is served by no other source that can be read.

    Where there are some it takes `force`, or that the caller has seen them all (`seen`). Other sources are asked, over
    the network too: call it outside a transaction.
    Raises SecretNotFound, SecretInUse.
    """
    rows = Secret.objects.filter(organization=organization, name=name)
    if text_fault(name) or not rows.exists():
        raise SecretNotFound(f"There is no secret {name[: secret_rules.MAX_NAME]!r} in the database.")
    left = left_without(organization, name)
    if not force and set(left.flows) - set(seen):
        raise SecretInUse(name, left)
    if not rows.delete()[0]:
        raise SecretNotFound
    changes.tell({"stored": True}, {"stored": False})
    transaction.on_commit(lambda: secret_sources.forget(organization.id), robust=True)
    return left


@dataclass(kw_only=True)
class Rotation:
    """What became of the values that are stored encrypted; `unreadable` names the first rows that no key opens."""

    rotated: int = 0
    newest: int = 0
    unreadable_count: int = 0
    unreadable: list[str] = field(default_factory=list)

    def refuse(self, row: models.Model) -> None:
        self.unreadable_count += 1
        if len(self.unreadable) < MOST_NAMED:
            self.unreadable.append(f"{row._meta.verbose_name} {row} ({row.pk})")


def rotate(progress: Callable[[int], object] = lambda count: None) -> Rotation:
    """Write everything that is encrypted with the newest key, in batches of a transaction each.

    Runs may be open, and the site in use. One that is cut off is begun again: what has the newest key is left alone.
    """
    result = Rotation()
    for model, names in _encrypted():
        last: Any = None
        while page := _rotate_page(model, names, last, result):
            last = page
            progress(result.rotated + result.newest + result.unreadable_count)
    return result


def _rotate_page(model: type[models.Model], names: list[str], last: Any, result: Rotation) -> Any:
    """The primary key of the last row of the page after `last`; None where there is none."""
    with transaction.atomic():
        rows = model._default_manager.select_for_update(of=("self",)).order_by("pk")
        page = list((rows if last is None else rows.filter(pk__gt=last))[:BATCH])
        for row in page:
            changed = {}
            for name, ciphertext in _values(row, names):
                if is_newest(ciphertext):
                    result.newest += 1
                    continue
                try:
                    changed[name] = encrypt(decrypt(ciphertext, str(row)))
                    result.rotated += 1
                except ConfigurationFailure:
                    result.refuse(row)
            if changed:
                model._default_manager.filter(pk=row.pk).update(**changed)
    return page[-1].pk if page else None


def look() -> Rotation:
    """How many values are under the newest key, under older ones (`rotated`: they would be), and under none."""
    result = Rotation()
    for model, names in _encrypted():
        rows = model._default_manager.order_by("pk")
        page = list(rows[:BATCH])
        while page:
            for row in page:
                _look_at(row, names, result)
            page = list(rows.filter(pk__gt=page[-1].pk)[:BATCH])
    return result


def _look_at(row: models.Model, names: list[str], result: Rotation) -> None:
    for _, ciphertext in _values(row, names):
        if is_newest(ciphertext):
            result.newest += 1
            continue
        try:
            decrypt(ciphertext, str(row))
            result.rotated += 1
        except ConfigurationFailure:
            result.refuse(row)


def _encrypted() -> Iterator[tuple[type[models.Model], list[str]]]:
    """The models of this package that keep something encrypted (it is all that is binary), with the fields."""
    for model in apps.get_models():
        if model._meta.app_label.startswith("headrace_"):
            names = [each.name for each in model._meta.concrete_fields if isinstance(each, models.BinaryField)]
            if names:
                yield model, names


def _values(row: models.Model, names: list[str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        ciphertext = getattr(row, name)
        if ciphertext is not None:
            yield name, bytes(ciphertext)
