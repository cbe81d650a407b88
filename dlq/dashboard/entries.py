"""The links of dead letters and alerts: in the navigation, and in the audit log."""

from __future__ import annotations

from dlq.models import DeadLetter, DeadLetterGroup
from workflows.dashboard.control.objects import place_of
from workflows.dashboard.navigation import Entry

ENTRIES = (
    Entry(group="Operate", label="Dead letters", url="headrace-letters:causes", icon="letters", key="d"),
    Entry(group="Operate", label="Alerts", url="headrace-alerts:alerts", icon="alerts", key="n"),
)
PLACES = {
    "dead letter": place_of("headrace-letters:letter", DeadLetter),
    "dead letter group": place_of("headrace-letters:cause", DeadLetterGroup),
}
