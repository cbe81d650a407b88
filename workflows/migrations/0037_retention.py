"""Rules and state of retention. Where there are rows already, nothing is deleted by itself for a week: only counted."""

import datetime as dt
from typing import Any

import django.db.models.deletion
import uuid6
from django.db import migrations, models
from django.utils import timezone

DRY_RUN = dt.timedelta(days=7)
OF_THE_PROJECT = (
    "django_admin_log", "django_session", "django_celery_results_taskresult", "django_celery_results_groupresult",
)  # fmt: skip
"""Tables of other apps that retention deletes old rows of: a project may have had them for years."""


def begin(apps: Any, schema_editor: Any) -> None:
    """The row of the state; a dry run of a week where the database was in use before."""
    names = ("Run", "Event", "CronFire", "BulkOperation")
    in_use = any(apps.get_model("headrace_workflows", name).objects.exists() for name in names)
    in_use = in_use or _project_has_rows(schema_editor.connection)
    apps.get_model("headrace_workflows", "RetentionState").objects.get_or_create(
        id=1, defaults={"dry_until": timezone.now() + DRY_RUN if in_use else None}
    )


def _project_has_rows(connection: Any) -> bool:
    """Whether the project that Headrace is added to has rows that retention would delete by their age."""
    with connection.cursor() as cursor:
        for table in set(OF_THE_PROJECT).intersection(connection.introspection.table_names(cursor)):
            cursor.execute(f"SELECT EXISTS (SELECT FROM {connection.ops.quote_name(table)})")
            if cursor.fetchone()[0]:
                return True
    return False


class Migration(migrations.Migration):
    dependencies = [
        ("headrace_workflows", "0034_audit"),
    ]

    operations = [
        migrations.CreateModel(
            name="ImportedRun",
            fields=[
                ("run_id", models.UUIDField(primary_key=True, serialize=False)),
                ("org_id", models.UUIDField()),
                ("kept_until", models.DateTimeField()),
            ],
            options={
                "indexes": [models.Index(fields=["kept_until"], name="imported_run_by_time")],
            },
        ),
        migrations.CreateModel(
            name="PrunedCount",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "org_id", "status", "minute", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("org_id", models.UUIDField()),
                ("status", models.CharField(max_length=10)),
                ("minute", models.DateTimeField()),
                ("runs", models.PositiveIntegerField()),
            ],
            options={
                "indexes": [models.Index(fields=["minute"], name="pruned_count_by_minute")],
            },
        ),
        migrations.CreateModel(
            name="PrunedRun",
            fields=[
                ("run_id", models.UUIDField(primary_key=True, serialize=False)),
                ("org_id", models.UUIDField()),
                ("pruned_at", models.DateTimeField()),
            ],
            options={
                "indexes": [models.Index(fields=["pruned_at", "run_id"], name="pruned_run_by_time")],
            },
        ),
        migrations.CreateModel(
            name="RetentionState",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, editable=False, primary_key=True, serialize=False)),
                (
                    "dry_until",
                    models.DateTimeField(
                        blank=True,
                        help_text="Until then nothing is deleted by itself, only counted: the database had rows.",
                        null=True,
                    ),
                ),
                (
                    "announced_at",
                    models.DateTimeField(blank=True, help_text="When the first deletion was announced.", null=True),
                ),
                (
                    "would_delete",
                    models.JSONField(
                        db_default={}, default=dict, help_text="By subject: what the dry run has counted."
                    ),
                ),
                ("began_at", models.DateTimeField(blank=True, help_text="When the last pass began.", null=True)),
                (
                    "ended_at",
                    models.DateTimeField(blank=True, help_text="When it ended; empty while it goes on.", null=True),
                ),
                ("next_at", models.DateTimeField(blank=True, help_text="When the next pass is due.", null=True)),
                (
                    "deleted",
                    models.JSONField(
                        db_default={}, default=dict, help_text="By table: rows deleted since the installation."
                    ),
                ),
                (
                    "last_pass",
                    models.JSONField(db_default={}, default=dict, help_text="By table: rows deleted in the last pass."),
                ),
                (
                    "held",
                    models.JSONField(
                        db_default={}, default=dict, help_text="By reason: expired runs that the last pass left."
                    ),
                ),
            ],
            options={
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="retention_state_one")],
            },
        ),
        migrations.CreateModel(
            name="RetentionRule",
            fields=[
                ("id", models.UUIDField(default=uuid6.uuid7, editable=False, primary_key=True, serialize=False)),
                (
                    "subject",
                    models.CharField(help_text="What is kept: completed, failed, cancelled, events, …", max_length=30),
                ),
                (
                    "days",
                    models.FloatField(blank=True, help_text="From its end; 0.05 … 3650. Empty: for ever.", null=True),
                ),
                ("changed_by", models.CharField(editable=False, max_length=200)),
                ("changed_at", models.DateTimeField(auto_now=True)),
                (
                    "organization",
                    models.ForeignKey(
                        blank=True,
                        help_text="Empty: for all organizations that have no rule of their own.",
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="retention_rules",
                        to="headrace_workflows.organization",
                    ),
                ),
            ],
            options={
                "ordering": ["organization", "subject"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organization", "subject"), name="retention_rule_place", nulls_distinct=False
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("days", None),
                            models.Q(("days__gte", 0.041666666666666664), ("days__lte", 3650.0)),
                            _connector="OR",
                        ),
                        name="retention_rule_days",
                    ),
                ],
            },
        ),
        migrations.RunPython(begin, migrations.RunPython.noop),
    ]
