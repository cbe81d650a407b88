"""The indexes of waits for rows that nobody has told yet, and of steps that have kept log lines, built beside the
traffic."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("headrace_workflows", "0043_minutes")]

    operations = [
        # What a build that was broken off left; it would be in the way of the next.
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS model_wait_unchanged", migrations.RunSQL.noop),
        AddIndexConcurrently(
            model_name="modelwait",
            index=models.Index(condition=Q(("changed_at", None)), fields=["table_name"], name="model_wait_unchanged"),
        ),
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS step_run_with_logs", migrations.RunSQL.noop),
        AddIndexConcurrently(
            model_name="steprun",
            index=models.Index(condition=~Q(("kept_logs", None)), fields=["org_id", "id"], name="step_run_with_logs"),
        ),
    ]
