"""The links of dead letters and alerts in the navigation."""

from __future__ import annotations

from workflows.dashboard.navigation import Entry

ENTRIES = (
    Entry(group="Operate", label="Dead letters", url="headrace-letters:causes", icon="letters", key="d"),
    Entry(group="Operate", label="Alerts", url="headrace-alerts:alerts", icon="alerts", key="n"),
)
