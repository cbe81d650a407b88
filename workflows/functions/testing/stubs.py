"""What stands in for steps: values, errors and functions, by the names of the steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workflows.functions import payloads


class FlowTestError(AssertionError):
    """The test asks for something that the run, or the kit, does not have. The message says what to do."""


class NotStubbed(FlowTestError):
    """A step would reach something outside of the test."""


@dataclass(kw_only=True)
class _Stub:
    results: tuple[Any, ...]
    used: int = 0

    def next(self) -> Any:
        """The result of the next try; the last one stays."""
        found = self.results[min(self.used, len(self.results) - 1)]
        self.used += 1
        return found


class Stubs:
    """By flow and name of a step, what it gives."""

    def __init__(self) -> None:
        self._by: dict[tuple[str, str], _Stub] = {}

    def add(self, name: str, results: tuple[Any, ...], flow: str) -> None:
        if not results:
            raise FlowTestError(f"stub({name!r}): give what the step returns, or the error that it raises.")
        self._by[flow, name] = _Stub(results=results)

    def remove(self, name: str, flow: str) -> None:
        if self._by.pop((flow, name), None) is None:
            raise FlowTestError(f"unstub({name!r}): the step has no stub.")

    def find(self, flow: str, name: str, key: str) -> _Stub | None:
        """Of this call (`charge:1`), else of all calls of the name; of this flow, else of all flows."""
        places = ((flow, key), (flow, name), ("", key), ("", name))
        return next((self._by[place] for place in places if place in self._by), None)


def result_of(found: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a stub gives: its value, or what its function returns for the step's own arguments. Raises its error."""
    if isinstance(found, BaseException):
        raise found.with_traceback(None)
    if isinstance(found, type) and issubclass(found, BaseException):
        raise found
    if not callable(found):
        return payloads.plain(found)
    try:
        return payloads.plain(found(*args, **kwargs))
    except FlowTestError:
        raise
    except AssertionError as error:  # that of a test: it is no failure of a step, which would be tried again
        raise FlowTestError(f"in a stub: {error}") from error
