"""When autovacuum comes, for each table that is written much; the reasons are in docs/howto/retention.md."""

from django.db import migrations

# By table: the share of its rows that may be dead before it is vacuumed (Postgres waits for 20 %), the share that may
# be new before its pages are frozen and marked visible, and the share that may change before it is analyzed.
SETTINGS = {
    "run": (0.05, 0.05, 0.05),
    "steprun": (0.05, 0.05, 0.05),
    "attempt": (0.05, 0.05, 0.05),
    "event": (0.05, 0.05, 0.05),
    "item": (0.05, 0.1, 0.05),
    "wait": (0.02, 0.2, 0.05),
    "fanout": (0.02, 0.2, 0.05),
    "worker": (0.0, 0.2, 0.5),
    "leaderlease": (0.0, 0.2, 0.5),
    "idempotencykey": (0.05, 0.1, 0.1),
    "runstart": (0.05, 0.1, 0.1),
    "triggeroutcome": (0.05, 0.1, 0.1),
    "cronfire": (0.05, 0.1, 0.1),
    "celerytask": (0.02, 0.2, 0.1),
    "observedtask": (0.05, 0.1, 0.1),
    "prunedrun": (0.02, 0.2, 0.2),
}
NAMES = ("autovacuum_vacuum_scale_factor", "autovacuum_vacuum_insert_scale_factor", "autovacuum_analyze_scale_factor")
OF_BEFORE = {"run", "steprun"}
"""These had the first of the settings before."""


def _set(table: str, values: tuple[float, float, float]) -> migrations.RunSQL:
    settings = ", ".join(f"{name} = {value}" for name, value in zip(NAMES, values, strict=True))
    before = NAMES[1:] if table in OF_BEFORE else NAMES
    return migrations.RunSQL(
        f"ALTER TABLE headrace_workflows_{table} SET ({settings})",
        f"ALTER TABLE headrace_workflows_{table} RESET ({', '.join(before)})",
    )


class Migration(migrations.Migration):
    dependencies = [("headrace_workflows", "0038_retention_indexes")]

    operations = [_set(table, values) for table, values in SETTINGS.items()]
