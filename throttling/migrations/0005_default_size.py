"""Ten runs at once in a database that is made now; one that is in use goes on without limits of whole runs."""

from typing import Any

from django.db import migrations, models

SHIPPED, NONE = "1gb", "off"
ORGANIZATIONS = "headrace_workflows_organization"


def choose(apps: Any, schema_editor: Any) -> None:
    """In use is a database with an organization: everything that runs belongs to one."""
    connection = schema_editor.connection
    with connection.cursor() as cursor:
        used = False
        if ORGANIZATIONS in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT EXISTS (SELECT 1 FROM {ORGANIZATIONS})")
            (used,) = cursor.fetchone()
    apps.get_model("headrace_throttling", "DefaultSize").objects.create(id=1, size=NONE if used else SHIPPED)


class Migration(migrations.Migration):
    replaces = [("throttling", "0005_default_size")]
    dependencies = [
        ("headrace_throttling", "0004_weights"),
    ]

    operations = [
        migrations.CreateModel(
            name="DefaultSize",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "size",
                    models.CharField(
                        choices=[("512mb", "512mb"), ("1gb", "1gb"), ("2gb", "2gb"), ("4gb", "4gb"), ("off", "off")],
                        db_default="off",
                        max_length=10,
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("id", 1)), name="throttle_default_size_one")
                ],
            },
        ),
        migrations.RunPython(choose, migrations.RunPython.noop),
    ]
