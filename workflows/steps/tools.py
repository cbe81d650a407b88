"""What the handlers of step types ask of the engine and the services, which import the step types themselves: their
functions are put in here when the application starts (`workflows.apps`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID


def _not_installed(*_: Any, **__: Any) -> Any:
    raise RuntimeError("The step types are used before the application has started.")


@dataclass(kw_only=True)
class Tools:
    """`send_event(org_id, id, name, data, user)` stores an event once; `invoke(org_id, flow, data, …)` starts a child
    run and gives its id; `fetch(statement, parameters)` executes a statement of the engine."""

    send_event: Callable[[UUID, UUID, str, dict[str, Any], dict[str, Any]], None] = _not_installed
    invoke: Callable[..., UUID] = _not_installed
    fetch: Callable[[str, Mapping[str, Any]], list[Any]] = _not_installed


TOOLS = Tools()
