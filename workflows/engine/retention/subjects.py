"""The subjects of retention: how long each is kept unless a rule says otherwise, and what that means."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

from throttling.errors import EnvironmentValueError
from workflows.errors import InvalidInput
from workflows.models.retention import MAX_DAYS, MIN_DAYS

FOR_EVER = frozenset({"forever", "never"})


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Something that is kept for `days` unless a rule says otherwise; None: for ever.

    `by_organization`: an organization may have a rule of its own; else there is one for all of them.
    """

    name: str
    days: float | None
    meaning: str
    by_organization: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that changes `days`."""
        return f"HEADRACE_RETENTION_{self.name.upper()}_DAYS"


RUN_STATUSES = ("completed", "failed", "cancelled")
_RUNS = "its steps, attempts, log lines, items and closed dead letters, from its end on"
SUBJECTS: dict[str, Subject] = {
    subject.name: subject
    for subject in (
        Subject(name="completed", days=30, by_organization=True, meaning=f"A run that completed: {_RUNS}."),
        Subject(name="failed", days=30, by_organization=True, meaning=f"A run that failed: {_RUNS}."),
        Subject(name="cancelled", days=30, by_organization=True, meaning=f"A run that was cancelled: {_RUNS}."),
        Subject(
            name="events", days=30, by_organization=True,
            meaning="An event, from its receipt on; longer while there is a run of it.",
        ),
        Subject(
            name="logs", days=30, by_organization=True,
            meaning="The log lines of attempts, where their run is kept for longer.",
        ),
        Subject(
            name="outcomes", days=30, by_organization=True,
            meaning="Why an event or a request has no run of its own (debounced, duplicate, …).",
        ),
        Subject(
            name="letters", days=30,
            meaning="A dead letter that the flow's code has handled keeps its run for so long: a fork may still come.",
        ),
        Subject(name="cron_fires", days=30, meaning="What came of a fire time of a schedule; the latest one stays."),
        Subject(name="operations", days=30, meaning="A bulk operation that has completed, or that stays stopped."),
        Subject(name="alerts", days=90, meaning="An alert that has recovered, with its notifications."),
        Subject(name="versions", days=365, meaning="A version of a flow that was followed, and that no run has."),
        Subject(name="limit_history", days=365, meaning="Who changed a limit, and how; the latest change stays."),
        Subject(name="audit", days=365, meaning="What people, keys and commands did: audit log, and the admin's own."),
        Subject(name="task_results", days=7, meaning="The results of Celery tasks (django-celery-results)."),
        Subject(name="sessions", days=1, meaning="A login's session, from its expiry on."),
    )
}  # fmt: skip
"""By name. What has a bound of its own (idempotency keys, observed tasks, …) stands in the catalogue only."""


def subject_of(name: str) -> Subject:
    """Raises InvalidInput for an unknown name."""
    if name not in SUBJECTS:
        raise InvalidInput(f"{name!r} is not kept by a rule; use {', '.join(SUBJECTS)}.")
    return SUBJECTS[name]


def checked_days(given: object, *, what: str = "days") -> float | None:
    """The days of a rule: a number from an hour to ten years, or None or "forever". Raises InvalidInput."""
    if given is None or (isinstance(given, str) and given.strip().lower() in FOR_EVER):
        return None
    try:
        value = math.nan if isinstance(given, bool) else float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = math.nan
    if not MIN_DAYS <= value <= MAX_DAYS:  # a NaN is neither
        raise InvalidInput(
            f"{what}: {str(given)[:50]!r} can't be used: give days from {MIN_DAYS:.4f} (an hour) to {MAX_DAYS:g} "
            "(ten years), or forever."
        )
    return value


def configured_days(subject: Subject, source: Mapping[str, str] | None = None) -> tuple[float | None, bool]:
    """The days of a subject without a rule, and whether the environment says so. Raises EnvironmentValueError."""
    raw = (os.environ if source is None else source).get(subject.variable, "").strip()
    if not raw:
        return subject.days, False
    try:
        return checked_days(raw, what=subject.variable), True
    except InvalidInput as error:
        raise EnvironmentValueError(str(error)) from None
