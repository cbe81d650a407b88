"""Severities of the shipped rules that nobody has edited."""

from typing import Any

from django.db import migrations

RULES = (("backlog", "waiting_runs", 50), ("throttling-overhead", "throttling_overhead", 10))


def warn(apps: Any, schema_editor: Any) -> None:
    """What stands exactly as it was shipped."""
    rules = apps.get_model("headrace_dlq", "AlertRule").objects
    for name, metric, threshold in RULES:
        shipped = {"comparison": ">", "threshold": threshold, "window_s": 300, "min_runs": 0, "org_id": None}
        rules.filter(name=name, metric=metric, severity="info", enabled=True, **shipped).update(severity="warning")


class Migration(migrations.Migration):
    replaces = [("dlq", "0005_severities")]
    dependencies = [
        ("headrace_dlq", "0004_repairing"),
    ]

    operations = [
        migrations.RunPython(warn, migrations.RunPython.noop),
    ]
