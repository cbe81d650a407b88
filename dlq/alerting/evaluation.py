"""Alerts: rules are looked at every minute (celery-beat is the clock), fire once, and say when it is over.

An alert that holds is a row, unique per rule and organization, so that two evaluations at once fire it once. What is to
be said about it is a row per channel in the same transaction; those are delivered outside of any, and tried again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from dlq.alerting import channels, metrics, texts
from dlq.models import Alert, AlertChannel, AlertNotification, AlertRule, DeadLetter
from dlq.models.alert import RANK
from workflows.edge.unavailable import is_database_away
from workflows.engine.maintenance import sweeps
from workflows.presenters import redaction

log = structlog.get_logger(__name__)
BATCH = 100
MAX_TRIES = 8
CLAIMED_FOR_S = 60
FIRST_PAUSE_S = 10
EVALUATE_WITHIN_S = 30.0
RULES = "alert rules"
OF_RULES = "alerts of rules"
OF_DISABLED_RULES = "alerts of disabled rules"
OF_FAILURES = "alerts of failures"
Kind = AlertNotification.Kind


@dataclass(frozen=True, kw_only=True)
class Change:
    """How many alerts an evaluation fired, and how many recovered."""

    fired: int = 0
    recovered: int = 0


def evaluate() -> Change:
    """Look at every rule: fire what holds and did not, and recover what held and does not."""
    changes: list[Change] = []
    sweeps.isolated(
        sweeps.Items(
            name=RULES,
            work=lambda some: changes.extend(_evaluate(rule) for rule in some),
            key=lambda rule: str(rule.id),
            org=lambda rule: rule.org_id,
            budget_s=EVALUATE_WITHIN_S,
        ),
        AlertRule.objects.filter(enabled=True),
    )
    disabled = Alert.objects.filter(recovered_at=None, rule__enabled=False)
    sweeps.isolated(
        sweeps.Items(
            name=OF_DISABLED_RULES,
            work=lambda some: changes.append(Change(recovered=sum(_recover(alert, None) for alert in some))),
            key=lambda alert: str(alert.id),
            org=lambda alert: alert.org_id,
        ),
        disabled,
    )
    return Change(fired=sum(each.fired for each in changes), recovered=sum(each.recovered for each in changes))


def _evaluate(rule: AlertRule) -> Change:
    """Look at a rule. An organization whose alert can't be fired keeps no other's from it."""
    fired = recovered = 0
    readings = {reading.org_id: reading for reading in metrics.read(rule)}
    held = {alert.org_id: alert for alert in rule.alerts.filter(recovered_at=None)}
    breaching = {org_id: reading for org_id, reading in readings.items() if holds(rule, reading.value)}

    def change(some: Sequence[UUID]) -> None:
        nonlocal fired, recovered
        (org_id,) = some
        if org_id not in breaching:
            recovered += _recover(held[org_id], readings.get(org_id))
        elif org_id in held:
            value = breaching[org_id].value
            Alert.objects.filter(id=held[org_id].id).update(seen_at=timezone.now(), value=value)
        else:
            fired += _fire(rule, breaching[org_id])

    sweeps.isolated(
        sweeps.Items(
            name=OF_RULES,
            work=change,
            key=lambda org_id: f"{rule.id} {org_id}",
            org=lambda org_id: org_id,
            budget_s=EVALUATE_WITHIN_S,
        ),
        sorted(breaching.keys() | held.keys()),
    )
    return Change(fired=fired, recovered=recovered)


def holds(rule: AlertRule, value: float) -> bool:
    if rule.comparison == AlertRule.Comparison.BELOW:
        return value < rule.threshold
    return value >= rule.threshold if rule.comparison == AlertRule.Comparison.AT_LEAST else value > rule.threshold


def _fire(rule: AlertRule, reading: metrics.Reading) -> int:
    now = timezone.now()
    with transaction.atomic():
        alert = Alert(
            org_id=reading.org_id,
            rule=rule,
            severity=rule.severity,
            title=texts.title(rule, reading),
            message=texts.message(rule, reading),
            value=reading.value,
            execution=reading.run_id,
            step=reading.step,
            fired_at=now,
            seen_at=now,
        )
        made = Alert.objects.bulk_create([alert], ignore_conflicts=True)
        if not Alert.objects.filter(id=made[0].id).exists():
            return 0  # another evaluation was first
        _notify(alert, Kind.FIRED)
    return 1


def _recover(alert: Alert, reading: metrics.Reading | None) -> int:
    with transaction.atomic():
        now = timezone.now()
        values: dict[str, object] = {"recovered_at": now} | ({"value": reading.value} if reading else {})
        if not Alert.objects.filter(id=alert.id, recovered_at=None).update(**values):
            return 0
        _notify(alert, Kind.RECOVERED)
    return 1


def alert_of_failures() -> bool:
    """An alert for each failure of a flow that asks for it (`alert_on_failure`). True where there is more."""
    rows = sweeps.fair_page(OF_FAILURES, DeadLetter.objects.filter(alert_due=True), by="id", limit=BATCH)
    sweeps.isolated(
        sweeps.Items(
            name=OF_FAILURES,
            work=lambda some: _alert_of([row.id for row in some]),
            key=sweeps.row_id,
            org=sweeps.row_org,
            group=BATCH,
            give_up=lambda row, _: DeadLetter.objects.filter(id=row.id).update(alert_due=False),
        ),
        rows,
    )
    return len(rows) == BATCH


def _alert_of(letter_ids: Sequence[UUID]) -> None:
    """An alert for each of the letters, all or none."""
    with transaction.atomic():
        due = DeadLetter.objects.select_for_update(skip_locked=True, of=("self",)).filter(alert_due=True)
        letters = list(due.filter(id__in=letter_ids).select_related("flow").order_by("id"))
        now = timezone.now()
        for letter in letters:
            alert = Alert.objects.create(
                org_id=letter.org_id,
                severity="critical",
                title=f"Job failed after all retries: {letter.event_name}"[:300],
                message=redaction.text(texts.failure_message(letter), [letter.run_id]),
                execution=letter.run_id,
                step=letter.step_key,
                fired_at=now,
                seen_at=now,
                recovered_at=now,  # nothing to wait for
            )
            _notify(alert, Kind.FIRED)
        DeadLetter.objects.filter(id__in=[letter.id for letter in letters]).update(alert_due=False)


def _notify(alert: Alert, kind: str) -> None:
    """A notification per channel; a recovery goes to those that were told of the alert."""
    names = (
        list(_targets(alert))
        if kind == Kind.FIRED
        else list(alert.notifications.filter(kind=Kind.FIRED).values_list("channel", flat=True))
    )
    now = timezone.now()
    AlertNotification.objects.bulk_create(
        [AlertNotification(alert=alert, channel=name, kind=kind, due_at=now) for name in names], ignore_conflicts=True
    )


def _targets(alert: Alert) -> Iterator[str]:
    for channel in AlertChannel.objects.filter(Q(org_id=None) | Q(org_id=alert.org_id), enabled=True):
        if RANK[alert.severity] >= RANK[channel.min_severity]:  # type: ignore[index]
            yield channel.name
    yield from channels.configured()


def is_due() -> bool:
    return AlertNotification.objects.filter(status="pending", due_at__lte=timezone.now()).exists()


def deliver() -> int:
    """Deliver what is due, the never tried first. Each is claimed by itself, sent outside of any transaction, and tried
    again later where that fails. Returns how many were delivered."""
    delivered = 0
    for _ in range(BATCH):
        notification = _claim()
        if notification is None:
            break
        error = _send(notification)
        if error is None:
            AlertNotification.objects.filter(id=notification.id).update(status="sent", sent_at=timezone.now(), error="")
            delivered += 1
            continue
        log.warning(
            "an alert could not be delivered", channel=notification.channel, tries=notification.tries, reason=error
        )
        last = notification.tries >= MAX_TRIES
        AlertNotification.objects.filter(id=notification.id).update(
            status="given_up" if last else "pending",
            error=error[:1000],
            due_at=timezone.now() + dt.timedelta(seconds=FIRST_PAUSE_S * 2 ** (notification.tries - 1)),
        )
    return delivered


def _send(notification: AlertNotification) -> str | None:
    """What went wrong, or None. Whatever a channel raises, the other notifications go on."""
    try:
        return channels.send(notification)
    except BaseException as error:
        if is_database_away(error):
            raise
        return sweeps.reason_of(error)


def _claim() -> AlertNotification | None:
    """One that is due; nobody else takes it for a minute. A recovery waits until its alert was told."""
    now = timezone.now()
    untold = AlertNotification.objects.filter(
        alert_id=OuterRef("alert_id"), channel=OuterRef("channel"), kind=Kind.FIRED, status="pending"
    )
    with transaction.atomic():
        due = AlertNotification.objects.select_for_update(skip_locked=True, of=("self",)).filter(
            ~Q(kind=Kind.RECOVERED) | ~Exists(untold), status="pending", due_at__lte=now
        )
        found = due.select_related("alert", "alert__rule").order_by("tries", "id").first()
        if found is not None:
            found.tries += 1
            found.due_at = now + dt.timedelta(seconds=CLAIMED_FOR_S)
            found.save(update_fields=["tries", "due_at"])
    return found
