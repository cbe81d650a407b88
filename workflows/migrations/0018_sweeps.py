from django.db import migrations, models


class Migration(migrations.Migration):
    replaces = [("workflows", "0018_sweeps")]
    dependencies = [
        ("headrace_workflows", "0017_access"),
    ]

    operations = [
        migrations.CreateModel(
            name="SweepFailure",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "sweep", "kind", "item", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("sweep", models.CharField(max_length=50)),
                (
                    "kind",
                    models.CharField(
                        choices=[("fails", "raises"), ("overran", "took longer than its budget")], max_length=10
                    ),
                ),
                (
                    "item",
                    models.CharField(blank=True, help_text="Empty where the sweep as a whole fails.", max_length=100),
                ),
                ("org_id", models.UUIDField(blank=True, null=True)),
                ("error", models.TextField(help_text="The last error.")),
                ("tries", models.PositiveIntegerField(default=1)),
                ("since", models.DateTimeField()),
                ("last_at", models.DateTimeField()),
                (
                    "try_again_at",
                    models.DateTimeField(help_text="The item is left out of the pages of its sweep until then."),
                ),
                ("given_up_at", models.DateTimeField(blank=True, help_text="Nobody tries it again.", null=True)),
            ],
            options={
                "ordering": ["sweep", "kind", "item"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("kind__in", ["fails", "overran"])), name="sweep_failure_kind"
                    )
                ],
            },
        ),
    ]
