"""Column defaults of dead letters: an id, one attempt, and now (the status had its own before)."""

import uuid6
from django.db import migrations, models
from django.db.models.functions import Now

from dlq.models import letter


class Migration(migrations.Migration):
    replaces = [("dlq", "0006_letter_defaults")]
    dependencies = [
        ("headrace_dlq", "0005_severities"),
        ("headrace_workflows", "0002_engine"),
    ]

    operations = [
        migrations.AlterField(
            model_name="deadletter",
            name="attempts",
            field=models.IntegerField(db_default=1, default=1),
        ),
        migrations.AlterField(
            model_name="deadletter",
            name="created_at",
            field=models.DateTimeField(db_default=Now()),
        ),
        migrations.AlterField(
            model_name="deadletter",
            name="failed_at",
            field=models.DateTimeField(db_default=Now()),
        ),
        migrations.AlterField(
            model_name="deadletter",
            name="id",
            field=models.UUIDField(
                db_default=letter.Uuid7(),
                default=uuid6.uuid7,
                editable=False,
                primary_key=True,
                serialize=False,
            ),
        ),
    ]
