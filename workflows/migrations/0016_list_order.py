"""Indexes for the lists of runs, built beside the traffic: triggers go on meanwhile."""

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models
from django.db.models import ExpressionWrapper, F, Q


class Migration(migrations.Migration):
    replaces = [("workflows", "0016_list_order")]
    atomic = False

    dependencies = [
        ("headrace_workflows", "0015_oauth_credentials"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="run",
            index=models.Index(
                condition=Q(("status__in", ["queued", "running"])),
                fields=["org_id", "status", "created_at"],
                name="run_live_by_age",
            ),
        ),
        RemoveIndexConcurrently(model_name="run", name="run_live"),
        AddIndexConcurrently(
            model_name="run",
            index=models.Index(fields=["org_id", "-priority", "-id"], name="run_by_priority"),
        ),
        AddIndexConcurrently(
            model_name="run",
            index=models.Index(
                F("org_id"),
                ExpressionWrapper(F("ended_at") - F("created_at"), output_field=models.DurationField()).desc(),
                F("id").desc(),
                condition=Q(("ended_at", None), _negated=True),
                name="run_by_duration",
            ),
        ),
        AddIndexConcurrently(
            model_name="run",
            index=models.Index(
                condition=Q(("user_id", ""), _negated=True), fields=["org_id", "user_id", "-id"], name="run_by_user"
            ),
        ),
        AddIndexConcurrently(
            model_name="run",
            index=models.Index(
                condition=Q(("event_name", ""), _negated=True),
                fields=["org_id", "event_name", "-id"],
                name="run_by_event_name",
            ),
        ),
        AddIndexConcurrently(
            model_name="run",
            index=models.Index(fields=["org_id", "trigger", "-id"], name="run_by_trigger"),
        ),
        AddIndexConcurrently(
            model_name="run",
            index=models.Index(
                condition=Q(("status__in", ["failed", "cancelled"])),
                fields=["org_id", "status", "-id"],
                name="run_unsuccessful",
            ),
        ),
    ]
