"""What the code of a flow can catch, and what ends a visit."""

from __future__ import annotations

import datetime as dt
from typing import Any

from workflows.errors import Category, ConfigurationFailure, NonRetriable, StepFailure


class StepFailed(NonRetriable):
    """A step has failed for good. `name`: its name; `error`: the class of its error; `attempts`: how many tries it had.

    A flow may catch it, and go on. Where it does not, the run fails, and the dead letter is that of the step.
    """

    at: dt.datetime | None = None
    """When it has failed."""

    def __init__(self, name: str, *, error: str, message: str, attempts: int, category: Category) -> None:
        tried = "once" if attempts == 1 else f"{attempts} times"
        super().__init__(f"The step {name!r} was tried {tried}: {error}: {message}", category=category)
        self.name = name
        self.error = error
        self.message = message
        self.attempts = attempts

    @classmethod
    def of(cls, name: str, error: dict[str, Any] | None, attempts: int, at: dt.datetime | None) -> StepFailed:
        """The failure of a step whose error is stored."""
        stored = error or {}
        known = set(Category)
        failure = cls(
            name,
            error=str(stored.get("name", "Error")),
            message=str(stored.get("message", "it has failed")),
            attempts=attempts,
            category=Category(stored["category"]) if stored.get("category") in known else Category.BUSINESS,
        )
        failure.at = at
        return failure


class Nondeterminism(ConfigurationFailure):
    """The code asks for other steps than those that the run's journal has."""


class StepCallRefused(ConfigurationFailure):
    """A step can't be called here."""


class Suspend(GeneratorExit):
    """The visit of a function ends here: what it asks for has not ended yet. Code that is left by it may run blocks of
    `finally`, or catch it: no step begins from then on.

    A GeneratorExit, since a generator of the code that asks for a step in its `finally` is closed by it.
    """


class TargetDone(GeneratorExit):
    """The step for which a function is visited has been performed: its value, or its error."""

    def __init__(self, value: Any = None, error: BaseException | None = None) -> None:
        super().__init__()
        self.value = value
        self.error = error


def is_of_the_code(error: BaseException) -> bool:
    """Whether the code of a flow may catch what a call raises. All else ends the visit, whatever the code makes of it:
    a journal that does not fit, a run that is cancelled, a database or a store that is away."""
    return isinstance(error, StepFailure) and not isinstance(error, Nondeterminism)
