"""The steps of a flow in Python: those that its code has asked for so far, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import Field

from throttling.policy import step_policy
from workflows.definitions.schema import MAX_TIMEOUT_MS, RetrySpec, ThrottlingSpec
from workflows.definitions.strict import Strict
from workflows.duration import Duration

T = TypeVar("T")
MAX_KEYS_KNOWN = 20_000


class CallOptions(Strict):
    """How a step of a function is retried, timed and limited: the fields of a step in a definition."""

    type: str
    timeout: Duration | None = Field(None, ge=1, le=MAX_TIMEOUT_MS)
    retry: RetrySpec | None = None
    throttling: ThrottlingSpec | None = None

    def checked(self) -> CallOptions:
        """The options, where the retry policy that they ask for exists. Raises ThrottlingError."""
        if self.retry is not None:
            self.retry.policy(step_policy(self.type, critical=False).retry)
        return self


@dataclass(frozen=True, kw_only=True)
class Discovered:
    """A name that a function has given to a step, and the options of its first call."""

    name: str
    options: Mapping[str, Any]
    """The fields of CallOptions, as they are validated."""


def name_of(key: str) -> str:
    """The name that the code gives: the key of a repeated call is `name:1`, `name:2`, …"""
    name, colon, number = key.rpartition(":")
    return name if colon and number.isdigit() else key


def read_options(name: str, options: Any) -> Discovered:
    """The options as they are stored. Raises ValueError (pydantic) for those that this process does not know."""
    checked = CallOptions.model_validate(options)
    return Discovered(name=name, options={field: getattr(checked, field) for field in CallOptions.model_fields})


class DiscoveredSteps(Mapping[str, T], Generic[T]):
    """Steps by key. Iteration gives the declared ones only; a look-up finds those too that the code has asked for."""

    def __init__(
        self,
        declared: Mapping[str, T],
        find: Callable[[str], Discovered | None],
        compile_: Callable[[Discovered], T],
    ) -> None:
        self._declared = declared
        self._find = find
        self._compile = compile_
        self._known: dict[str, T] = {}
        self._options: dict[str, Mapping[str, Any]] = {}

    def __getitem__(self, key: str) -> T:
        step = self._declared.get(key) or self._known.get(key)
        if step is None:
            found = self._find(name_of(key))
            if found is None:
                raise KeyError(key)
            self._options[found.name] = found.options
            step = self._known.setdefault(found.name, self._compile(found))
            if len(self._known) < MAX_KEYS_KNOWN:
                self._known[key] = step
        return step

    def options_of(self, name: str) -> Mapping[str, Any] | None:
        """The options of a step that has been looked up."""
        return self._options.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._declared)

    def __len__(self) -> int:
        return len(self._declared)
