"""When a cron schedule fires. Pure; times are aware UTC.

Daylight saving, by `cronsim` (the rules of Debian's cron): a fixed time that a change skips fires right after the gap,
one that a change repeats fires once; schedules with `*` in minute or hour go by the clock, so they fire in both hours.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

LATE_AFTER = dt.timedelta(seconds=60)
MAX_DUE = 1_000


FIELDS = (("minute", 60), ("hour", 24), ("day", 31), ("month", 12), ("weekday", 7))


def problem_of(schedule: str) -> str | None:
    """What is wrong with a schedule; None where it can fire."""
    parts = schedule.split()
    if len(parts) != len(FIELDS):
        return f"it has {len(parts)} fields; cron has five: minute hour day month weekday"
    for (name, size), part in zip(FIELDS, parts, strict=True):
        for item in part.split(","):
            if re.search(r"[LW#?]", re.sub(r"[A-Z]{3}", "", item.upper())):
                return f"{name}: {item!r}; L, W, # and ? are not understood: list the days"
            _, slash, step = item.partition("/")
            if slash and step.isdecimal() and int(step) >= size + (name in {"day", "month"}):
                return f"{name}: every {step} never comes within {size}; list the values, or use another field"
    try:
        next(CronSim(schedule, dt.datetime(2026, 1, 1, tzinfo=dt.UTC)))
    except CronSimError as error:
        return "it never fires: no month of it has that day" if _fires_in_some_month(parts) else str(error)
    except StopIteration:
        return "it never fires"
    return None


def _fires_in_some_month(parts: Sequence[str]) -> bool:
    try:
        CronSim(" ".join([*parts[:3], "*", parts[4]]), dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        CronSim(" ".join(["0", "0", "1", parts[3], "*"]), dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    except CronSimError:
        return False
    return True


def weekdays_from_sunday(schedule: str) -> str:
    """The weekday field as celery-beat reads it: 0 is Sunday, and there is no 7."""
    field = schedule.split()[4]
    if field.startswith("*"):
        return field
    days = CronSim(schedule, dt.datetime(2026, 1, 1, tzinfo=dt.UTC)).weekdays
    return ",".join(str(day) for day in sorted({int(day) % 7 for day in days if not isinstance(day, tuple)}))


def upcoming(schedule: str, zone: str, after: dt.datetime, count: int) -> list[dt.datetime]:
    """The next fire times after a moment."""
    times = islice(CronSim(schedule, after.astimezone(ZoneInfo(zone))), count)
    return [moment.astimezone(dt.UTC) for moment in times]


def due(schedule: str, zone: str, after: dt.datetime, now: dt.datetime) -> list[dt.datetime]:
    """The fire times after `after` and up to now, at most a thousand of them."""
    found: list[dt.datetime] = []
    for moment in CronSim(schedule, after.astimezone(ZoneInfo(zone))):
        if moment > now or len(found) >= MAX_DUE:
            break
        found.append(moment.astimezone(dt.UTC))
    return found


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which of the due times fire now, and which are passed over."""

    fire: list[dt.datetime] = field(default_factory=list)
    missed: list[dt.datetime] = field(default_factory=list)


def plan(times: Sequence[dt.datetime], now: dt.datetime, catch_up: str) -> Plan:
    """What is more than a minute late is caught up by policy: `none`, `latest` (if nothing is on time) or `all`."""
    late = [moment for moment in times if now - moment > LATE_AFTER]
    on_time = [moment for moment in times if now - moment <= LATE_AFTER]
    if catch_up == "all":
        return Plan(fire=[*late, *on_time])
    if catch_up == "latest" and late and not on_time:
        return Plan(fire=late[-1:], missed=late[:-1])
    return Plan(fire=on_time, missed=late)
