"""`@flow`: a Python function as a flow, and the flows that this process knows."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from workflows.definitions.schema import FUNCTION, FlowSpec
from workflows.definitions.validate import parse
from workflows.functions import declarations, fingerprint
from workflows.functions.declarations import Cron, Event, Webhook

MAIN = "main"
"""The key of the step that visits the function."""
Trigger = Event | Cron | Webhook | str
_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
_REGISTRY: dict[str, FunctionFlow] = {}


class FunctionFlow:
    """A flow in Python. Calling it calls the function itself, as a test of its own code may do."""

    def __init__(self, slug: str, function: Callable[..., Any], declared: Mapping[str, Any]) -> None:
        self.slug = slug
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        self.address = f"{function.__module__}:{function.__qualname__}"
        self.input_model: type[BaseModel] | None = declared.get("input") or _only_model(declared.get("on"))
        self.output_model: type[BaseModel] | None = declared.get("output")
        self._declared = declared
        self._digest = ""
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__module__ = function.__module__
        self.__wrapped__ = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<flow {self.slug}: {self.address}>"

    @property
    def digest(self) -> str:
        """Of its code: what says whether a run's version is the code that this process has."""
        if not self._digest:
            self._digest = fingerprint.of(self.function)
        return self._digest

    def model_of(self, event_name: str) -> type[BaseModel] | None:
        """The model of the data of the events of this name."""
        for trigger in _triggers(self._declared.get("on")):
            if isinstance(trigger, Event) and trigger.event == event_name and trigger.model is not None:
                return trigger.model
        return self.input_model

    def document(self) -> dict[str, Any]:
        """Its definition, as plain JSON. The controls are those of the definition format."""
        given = dict(self._declared)
        model, retries = self.input_model, given.pop("retries", None)
        timeout, retry = given.pop("timeout", None), given.pop("retry", None)
        for name in ("input", "output"):
            given.pop(name, None)
        document: dict[str, Any] = {"flow": self.slug, "name": given.pop("name", None) or self.slug}
        document["description"] = given.pop("description", None) or inspect.cleandoc(self.__doc__ or "")
        document["on"] = [_trigger(trigger) for trigger in _triggers(given.pop("on", None))]
        if model is not None:
            document["input_schema"] = model.model_json_schema()
        if retry is not None or retries is not None:
            document["retry"] = {**_retry(retry), **({} if retries is None else {"retries": retries})}
        if timeout is not None:
            document["timeouts"] = {**dict(given.pop("timeouts", None) or {}), "finish": timeout}
        if isinstance(given.get("on_failure"), FunctionFlow):
            given["on_failure"] = given["on_failure"].slug
        document.update((name, declarations.plain(value)) for name, value in given.items() if value is not None)
        config = {"function": self.address, "digest": self.digest, "is_async": self.is_async}
        document["steps"] = [{"id": MAIN, "type": FUNCTION, "config": config}]
        document["output"] = f"${{ steps['{MAIN}'].output }}"
        return document

    def spec(self) -> FlowSpec:
        """The checked definition. Raises DefinitionProblems with everything that is wrong."""
        return parse(self.document(), file=self.address, from_code=True)


def _triggers(on: Trigger | Iterable[Trigger] | None) -> list[Trigger]:
    if on is None:
        return []
    return [on] if isinstance(on, str | Event | Cron | Webhook) else list(on)


def _trigger(trigger: Trigger) -> dict[str, Any]:
    return {"event": trigger} if isinstance(trigger, str) else trigger.document()


def _only_model(on: Trigger | Iterable[Trigger] | None) -> type[BaseModel] | None:
    """The model of the only event that starts the flow: then every run has it."""
    triggers = _triggers(on)
    return triggers[0].model if len(triggers) == 1 and isinstance(triggers[0], Event) else None


def _retry(retry: Any) -> dict[str, Any]:
    return {"preset": retry} if isinstance(retry, str) else dict(retry or {})


_OPTIONS = frozenset(FlowSpec.model_fields) - {"flow", "steps", "output", "input_schema"} | {
    "retries", "timeout", "input", "output",
}  # fmt: skip


def flow(slug: str | None = None, **options: Any) -> Callable[[Callable[..., Any]], FunctionFlow]:
    """Make a flow of a function that takes `(event, step)`, sync or async.

    `slug`: its id (by default the function's name, with hyphens). `on`: what starts it: Event, Cron, Webhook, the name
    of an event, or a list of them. `retries`: of a step and of the function's own code, after the first try. `timeout`:
    how long a run may take. `input`, `output`: pydantic models. All else is as in the definition format: `name`,
    `description`, `priority`, `tags`, `concurrency` (a number, Concurrency, or a list), `throttle`, `timeouts`, `retry`
    (its fields, or the name of a preset), `cancel_on`, `idempotency`, `debounce`, `batch`, `singleton`, `rate_limit`,
    `on_failure`, `alert_on_failure`.

    Raises TypeError for an option that there is not, and ValueError for a slug that is taken, or none.
    """
    unknown = sorted(options.keys() - _OPTIONS)
    if unknown:
        raise TypeError(f"@flow: there is no option {', '.join(unknown)}; there are {', '.join(sorted(_OPTIONS))}")
    if callable(slug):
        raise TypeError("@flow is called: write @flow() above the function")

    def decorate(function: Callable[..., Any]) -> FunctionFlow:
        found = slug or function.__name__.replace("_", "-").lower()
        if not _SLUG.fullmatch(found):
            raise ValueError(f"@flow: {found!r} is no id; use small letters, digits, - and _")
        if "<locals>" in function.__qualname__:
            raise ValueError(f"@flow: {function.__qualname__} stands within a function; define it at module level")
        taken = _REGISTRY.get(found)
        if taken is not None and taken.address != f"{function.__module__}:{function.__qualname__}":
            raise ValueError(f"@flow: the id {found!r} is taken by {taken.address}; give this one an id of its own")
        made = FunctionFlow(found, function, options)
        _REGISTRY[found] = made
        return made

    return decorate


def known() -> list[FunctionFlow]:
    """The flows in Python that this process has imported, by their ids."""
    return [_REGISTRY[slug] for slug in sorted(_REGISTRY)]


def find(slug: str) -> FunctionFlow | None:
    """A flow by its id."""
    return _REGISTRY.get(slug)


def digests() -> dict[str, str]:
    """The digests of the code that this process has, by flow."""
    return {slug: each.digest for slug, each in _REGISTRY.items()}


def forget(slug: str) -> None:
    """Drop a flow (for tests)."""
    _REGISTRY.pop(slug, None)
