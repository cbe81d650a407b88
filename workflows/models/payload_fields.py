"""Fields of models that hold payloads: they open what they read, and seal what they write where that is asked for.

`QuerySet.update()` writes past them: nothing may use it for such a field. They are also the list of what is sealed:
`services.access.stored_payloads` walks them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.apps import apps
from django.db import models
from django.db.models.expressions import BaseExpression
from django.db.models.fields.json import KeyTransform
from psycopg.types.json import Jsonb

from workflows.errors import EncryptionKeyMissing
from workflows.sealing import envelope, shapes, switch
from workflows.sealing.shapes import Shape

RowShape = Callable[[Mapping[str, Any], Any], Any]


def is_on(org_id: UUID) -> bool:
    """Whether an organization's payloads are to be sealed, for those who use Django's connection."""
    return switch.known().is_on(org_id, _look)


def is_on_for_any() -> bool:
    """Whether any organization wants it: what belongs to none may quote a payload of that one."""
    return not switch.known().is_off_for_all(_look)


def _look() -> Iterable[UUID]:
    found = apps.get_model("headrace_workflows", "Organization")._default_manager.filter(encrypts_payloads=True)
    return list(found.values_list("id", flat=True))


class PayloadField(models.JSONField):
    """JSON that is a payload, or holds one. `shape`: what of it is sealed; `row_shape`: the same, by columns of its
    row. `owner`: where its row has the id of its organization, such as `letter.org_id`."""

    def __init__(
        self,
        *args: Any,
        shape: Shape = shapes.whole,
        row_shape: RowShape | None = None,
        owner: str = "org_id",
        **options: Any,
    ) -> None:
        self.shape, self.row_shape, self.owner = shape, row_shape, owner
        super().__init__(*args, **options)

    def deconstruct(self) -> Any:
        name, _, args, options = super().deconstruct()
        return name, "django.db.models.JSONField", args, options

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        if isinstance(value, str) and envelope.has_marker(value):
            return envelope.loads(value)
        if isinstance(expression, KeyTransform) and not isinstance(value, str):
            return value
        return None if value is None else json.loads(value)

    def sealed(self, row: Mapping[str, Any], value: Any) -> Any:
        """The value as it is stored where it is sealed."""
        return self.shape(value) if self.row_shape is None else self.row_shape(row, value)

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """What is stored, serialised once: what is not sealed goes on as the text in which it was looked for MARKER."""
        value = super().pre_save(model_instance, add)
        if value is None or isinstance(value, BaseExpression):
            return value
        envelope.check_open(value)
        if not _is_on(model_instance, self.owner):
            text = json.dumps(value, cls=self.encoder)
            if not envelope.has_marker(text):
                return _Serialised(text)
        return self.sealed(vars(model_instance), value)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        if isinstance(value, _Serialised):
            return Jsonb(value, dumps=_text_of)
        return super().get_db_prep_value(value, connection, prepared)


@dataclass(frozen=True)
class _Serialised:
    """A value that is stored in clear, as JSON text."""

    text: str


def _text_of(value: Any) -> str:
    return str(value.text)


class PayloadTextField(models.TextField):  # type: ignore[type-arg]
    """Text that may quote a payload."""

    def __init__(self, *args: Any, owner: str = "org_id", **options: Any) -> None:
        self.owner = owner
        super().__init__(*args, **options)

    def deconstruct(self) -> Any:
        name, _, args, options = super().deconstruct()
        return name, "django.db.models.TextField", args, options

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return envelope.open_text(value) if isinstance(value, str) else value

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        value = super().pre_save(model_instance, add)
        if not value or not isinstance(value, str):
            return value
        if isinstance(value, envelope.UnopenedText):
            raise EncryptionKeyMissing(str(value))
        is_wanted = envelope.TEXT_MARKER in value or _is_on(model_instance, self.owner)
        return envelope.seal_text(value) if is_wanted else value


def _is_on(row: models.Model, owner: str) -> bool:
    if not is_on_for_any():
        return False  # and nobody has to look for the row that has the organization
    found: Any = row
    for name in owner.split("."):
        found = getattr(found, name)
    return found is not None and is_on(found if isinstance(found, UUID) else UUID(str(found)))
