"""The indexes of unheard events and of flows that are being deleted, built beside the traffic."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    replaces = [("workflows", "0024_indexes_beside_the_traffic")]
    atomic = False

    dependencies = [("headrace_workflows", "0023_unmatched_by_org")]

    operations = [
        # What a build that was broken off left; it would be in the way of the next.
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS event_unheard", migrations.RunSQL.noop),
        AddIndexConcurrently(
            model_name="event",
            index=models.Index(condition=Q(("unheard", True)), fields=["org_id", "-id"], name="event_unheard"),
        ),
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS flow_to_delete", migrations.RunSQL.noop),
        AddIndexConcurrently(
            model_name="flow",
            index=models.Index(
                condition=~Q(("deletion_asked_at", None)), fields=["deletion_asked_at"], name="flow_to_delete"
            ),
        ),
    ]
