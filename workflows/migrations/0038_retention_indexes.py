"""The index of attempts that have log lines, built beside the traffic."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("headrace_workflows", "0037_retention")]

    operations = [
        # What a build that was broken off left; it would be in the way of the next.
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS attempt_with_logs", migrations.RunSQL.noop),
        AddIndexConcurrently(
            model_name="attempt",
            index=models.Index(condition=~Q(("logs", None)), fields=["org_id", "id"], name="attempt_with_logs"),
        ),
    ]
