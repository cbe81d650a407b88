"""The index of unmatched events by organization, built beside the traffic: events go on meanwhile."""

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    replaces = [("workflows", "0023_unmatched_by_org")]
    atomic = False

    dependencies = [("headrace_workflows", "0022_repair")]

    operations = [
        # What a build that was broken off left; it would be in the way of the next.
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS event_unmatched_by_org", migrations.RunSQL.noop),
        AddIndexConcurrently(
            model_name="event",
            index=models.Index(
                condition=models.Q(("matched_at", None)), fields=["org_id", "id"], name="event_unmatched_by_org"
            ),
        ),
        RemoveIndexConcurrently(model_name="event", name="event_unmatched"),
    ]
