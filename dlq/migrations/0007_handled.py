"""Dead letters whose failures the code of a flow has caught."""

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("headrace_dlq", "0006_letter_defaults")]

    operations = [
        migrations.AlterField(
            model_name="deadletter",
            name="status",
            field=models.CharField(
                choices=[
                    ("failed", "failed"),
                    ("reprocessed", "reprocessed"),
                    ("ignored", "ignored"),
                    ("handled", "handled by the flow's code"),
                ],
                db_default="failed",
                max_length=12,
            ),
        ),
        migrations.RemoveConstraint(model_name="deadletter", name="dead_letter_status"),
        migrations.AddConstraint(
            model_name="deadletter",
            constraint=models.CheckConstraint(
                condition=Q(status__in=["failed", "reprocessed", "ignored", "handled"]), name="dead_letter_status"
            ),
        ),
    ]
