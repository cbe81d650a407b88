"""Tags of runs. (The code of before writes none, and the column is empty then.)"""

import django.contrib.postgres.fields
from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("headrace_workflows", "0044_unchanged_model_waits")]

    operations = [
        migrations.AddField(
            model_name="run",
            name="tags",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=64),
                blank=True,
                db_default=[],
                default=list,
                help_text="Words by which people find it again (`workflows/edge/tags.py`).",
                size=None,
            ),
        ),
        AddConstraintNotValid(
            model_name="run",
            constraint=models.CheckConstraint(condition=models.Q(("tags__len__lte", 20)), name="run_tags"),
        ),
    ]
