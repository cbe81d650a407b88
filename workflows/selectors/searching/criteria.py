"""What a list of runs is narrowed by: what indexes know (RunFilter), and what a row has to be read for."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db.models import DurationField, ExpressionWrapper, F, Q, QuerySet, TextField
from django.db.models.functions import Cast, Coalesce, Now

from workflows.errors import ExpressionError, InvalidInput
from workflows.expressions import Expression, check_bounds, compile_expression
from workflows.models import Run
from workflows.payload import text_fault
from workflows.selectors.run_lists import RunFilter

CEL_NAMES = frozenset({"run", "input"})
MAX_TEXT = 200


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """Which runs to find. Bounds are inclusive; empty ones don't narrow."""

    where: RunFilter = field(default_factory=RunFilter)
    priority_from: int | None = None
    priority_to: int | None = None
    duration_from: dt.timedelta | None = None
    duration_to: dt.timedelta | None = None
    tags: tuple[str, ...] = ()
    """It has all of them."""
    text: str = ""
    """Stands in the input, the output or the error, in any case."""
    cel: str = ""
    """Holds of the run: an expression of `run` and `input`."""

    def __post_init__(self) -> None:
        if len(self.text) > MAX_TEXT or text_fault(self.text):
            raise InvalidInput(f"text: search for at most {MAX_TEXT} characters, without NUL.")

    @property
    def is_walk(self) -> bool:
        """Whether rows have to be read one after the other."""
        bounds = (self.priority_from, self.priority_to, self.duration_from, self.duration_to)
        return bool(self.text or self.cel or self.tags) or any(each is not None for each in bounds)

    @property
    def reads_bodies(self) -> bool:
        return bool(self.text or self.cel)

    def expression(self, owner: UUID) -> Expression | None:
        """The compiled `cel`. Raises InvalidInput for a bad one."""
        if not self.cel:
            return None
        try:
            compiled = compile_expression(self.cel, CEL_NAMES, owner=owner)
            check_bounds(compiled)
        except ExpressionError as error:
            raise InvalidInput(f"cel: {error}") from None
        return compiled

    @cached_property
    def _condition(self) -> Q:
        condition = Q()
        for name, value in (("priority__gte", self.priority_from), ("priority__lte", self.priority_to)):
            if value is not None:
                condition &= Q(**{name: value})
        for name, span in (("lasted__gte", self.duration_from), ("lasted__lte", self.duration_to)):
            if span is not None:
                condition &= Q(**{name: span})
        return condition

    def narrow(self, runs: QuerySet[Run], *, bodies: bool = True) -> QuerySet[Run]:
        """Those of the runs that SQL can tell; `bodies`: by their texts, too."""
        lasted = ExpressionWrapper(Coalesce(F("ended_at"), Now()) - F("created_at"), output_field=DurationField())
        if self.duration_from is not None or self.duration_to is not None:
            runs = runs.alias(lasted=lasted)
        runs = runs.filter(self._condition)
        if self.tags:
            runs = runs.filter(tags__contains=list(self.tags))
        if not (self.text and bodies):
            return runs
        texts = {f"{name}_text": Cast(name, TextField()) for name in ("input", "output", "error")}
        anywhere = Q()
        for name in texts:
            anywhere |= Q(**{f"{name}__icontains": self.text})
        return runs.alias(**texts).filter(anywhere)


def scope_of(run: Run) -> dict[str, Any]:
    """What an expression of a search sees of a run."""
    ended = run.ended_at
    return {
        "input": run.input,
        "run": {
            "id": str(run.id),
            "flow": run.flow.slug,
            "status": run.status,
            "trigger": run.trigger,
            "event": run.event_name,
            "userId": run.user_id,
            "tags": list(run.tags),
            "priority": run.priority,
            "createdAt": run.created_at.isoformat(),
            "durationMs": round((ended - run.created_at).total_seconds() * 1000) if ended else None,
            "output": run.output,
            "error": run.error,
        },
    }
