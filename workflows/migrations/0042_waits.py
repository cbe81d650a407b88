from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("headrace_workflows", "0040_saved_views")]

    operations = [
        migrations.AddField(
            model_name="steprun",
            name="kept_logs",
            field=models.JSONField(
                blank=True, help_text="What its current try has logged before it waited: {try, lines}.", null=True
            ),
        ),
        migrations.CreateModel(
            name="ModelWait",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("step_run_id", models.UUIDField()),
                ("org_id", models.UUIDField()),
                ("table_name", models.CharField(max_length=255)),
                ("looked_at", models.DateTimeField()),
                (
                    "changed_at",
                    models.DateTimeField(blank=True, help_text="When a row changed after the last look.", null=True),
                ),
                ("expires_at", models.DateTimeField()),
            ],
            options={
                "indexes": [
                    models.Index(fields=["table_name"], name="model_wait_by_table"),
                    models.Index(
                        condition=models.Q(("changed_at", None), _negated=True),
                        fields=["changed_at"],
                        name="model_wait_changed",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("step_run_id", "table_name"), name="model_wait_identity")
                ],
            },
        ),
    ]
