"""`step.wait_for_model`: looks for a row of the application, and sleeps until it may be there."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from workflows.engine.waits import rows
from workflows.functions import payloads
from workflows.functions.surroundings import Surroundings
from workflows.steps.context import StepContext
from workflows.steps.outcome import Outcome, Sleep


class Look:
    """The handler of `wait_for_model`: a row, or another look later."""

    def __init__(self, queryset: QuerySet[Any], every_s: float, timeout_s: float, around: Surroundings) -> None:
        self._queryset, self._every_s, self._timeout_s, self._around = queryset, every_s, timeout_s, around

    def __call__(self, context: StepContext) -> Outcome | dict[str, Any]:
        left_s = self._around.await_rows(context, rows.tables_read(self._queryset), self._timeout_s)  # before it looks
        found = self._queryset.all().values_list("pk", flat=True).first()
        if found is not None:
            return {"pk": payloads.plain(found) if isinstance(found, int | str) else str(found)}
        every_s = min(self._every_s, 2.0 ** min(context.wake_seq, 16))  # who writes may not know of the wait yet
        return Sleep(seconds=min(every_s, left_s)) if left_s > 0 else {"pk": None}


def primary_key(value: Any) -> Any:
    """What the flow gets: that of the row, or None."""
    return value["pk"]
