import django.db.models.deletion
import uuid6
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("headrace_workflows", "0026_unsettled_runs")]

    operations = [
        migrations.AlterField(
            model_name="flow",
            name="kind",
            field=models.CharField(
                choices=[("declarative", "declarative"), ("code", "Python")], default="declarative", max_length=20
            ),
        ),
        migrations.CreateModel(
            name="DiscoveredStep",
            fields=[
                ("id", models.UUIDField(default=uuid6.uuid7, editable=False, primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=90)),
                (
                    "options",
                    models.JSONField(help_text="{type, timeout, retry, throttling}, as in a definition."),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "version",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="discovered_steps",
                        to="headrace_workflows.flowversion",
                    ),
                ),
            ],
            options={"ordering": ["version", "name"]},
        ),
        migrations.AddConstraint(
            model_name="discoveredstep",
            constraint=models.UniqueConstraint(fields=("version", "name"), name="discovered_step_name"),
        ),
    ]
