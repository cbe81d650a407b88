"""Lanes that workers announce, and the losses that count against a step."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    replaces = [("workflows", "0019_compute")]
    dependencies = [("headrace_workflows", "0018_sweeps")]

    operations = [
        migrations.AddField(
            model_name="worker",
            name="lanes",
            field=models.JSONField(
                db_default={},
                help_text="How many permits it adds to each lane: what a queue's permits are counted by.",
            ),
        ),
        migrations.AddField(
            model_name="steprun",
            name="solitary_losses",
            field=models.IntegerField(
                db_default=0,
                help_text="How often that was while nothing else ran in the same process: these count against it.",
            ),
        ),
    ]
