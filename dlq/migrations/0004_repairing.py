"""The index of letters that are being repaired, built beside the traffic."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    replaces = [("dlq", "0004_repairing")]
    atomic = False

    dependencies = [("headrace_dlq", "0003_repair")]

    operations = [
        # What a build that was broken off left; it would be in the way of the next.
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS dead_letter_repairing", migrations.RunSQL.noop),
        AddIndexConcurrently(
            "deadletter", models.Index(fields=["id"], name="dead_letter_repairing", condition=Q(repairing=True))
        ),
    ]
