"""The index of live runs that are bound to fail or to be cancelled: looks read it each second."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    replaces = [("workflows", "0026_unsettled_runs")]
    atomic = False

    dependencies = [("headrace_workflows", "0025_names_of_code")]

    operations = [
        # What a build that was broken off left; it would be in the way of the next.
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS run_unsettled", migrations.RunSQL.noop),
        AddIndexConcurrently(
            model_name="run",
            index=models.Index(
                condition=models.Q(("status__in", ["queued", "running"]))
                & (models.Q(("error__isnull", False)) | models.Q(("cancel_requested_at__isnull", False))),
                fields=["id"],
                name="run_unsettled",
            ),
        ),
    ]
