"""What starts a run, as the code of a flow sees it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from workflows.errors import Category, NonRetriable


@dataclass(frozen=True, kw_only=True)
class ReceivedEvent:
    """An event: `name`, `data`, `user`, `id`, and `ts`, when it happened.

    `data` is plain JSON, or an instance of the model that the flow declares for it. A run that no event has started has
    one of its own, with the run's input as data.
    """

    name: str
    data: Any
    user: Mapping[str, Any]
    id: str
    ts: dt.datetime

    @classmethod
    def of(cls, facts: Mapping[str, Any], model: type[BaseModel] | None = None) -> ReceivedEvent:
        """The event by its facts; its data as the model has it. Raises NonRetriable."""
        return cls(
            name=facts["name"],
            data=typed(facts["data"], model),
            user=facts["user"],
            id=facts["id"],
            ts=dt.datetime.fromtimestamp(facts["ts"] / 1000, dt.UTC),
        )


def typed(value: Any, model: type[BaseModel] | None, category: Category = Category.INVALID_INPUT) -> Any:
    """The value as an instance of the model, where there is one. Raises NonRetriable of the category."""
    if model is None:
        return value
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise NonRetriable(f"The data does not fit {model.__name__}: {problems(error)}", category=category) from None


def problems(error: ValidationError) -> str:
    """What is wrong, each with its path."""
    found = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'value'}: {each['msg']}" for each in found[:20])


def plain(value: Any) -> Any:
    """The value as it is stored: models as plain JSON."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, ReceivedEvent):
        return {"id": value.id, "name": value.name, "data": plain(value.data), "user": dict(value.user),
                "ts": int(value.ts.timestamp() * 1000)}  # fmt: skip
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value
