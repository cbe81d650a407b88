"""Weights are 0.01 … 100. Rows from before stay as they are (they are read as the nearest bound): NOT VALID."""

from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models


class Migration(migrations.Migration):
    replaces = [("throttling", "0004_weights")]
    dependencies = [
        ("headrace_throttling", "0003_stops"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="throttleoverride",
            name="throttle_override_weight",
        ),
        migrations.AlterField(
            model_name="throttleoverride",
            name="weight",
            field=models.FloatField(
                blank=True,
                help_text="Of an organization: its share where it has to wait, 0.01 … 100; operators set it.",
                null=True,
            ),
        ),
        AddConstraintNotValid(
            model_name="throttleoverride",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("weight", None), models.Q(("weight__gte", 0.01), ("weight__lte", 100.0)), _connector="OR"
                ),
                name="throttle_override_weight",
            ),
        ),
    ]
