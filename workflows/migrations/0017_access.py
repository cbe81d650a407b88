from django.db import migrations, models


class Migration(migrations.Migration):
    replaces = [("workflows", "0017_access")]
    dependencies = [
        ("headrace_workflows", "0016_list_order"),
    ]

    operations = [
        migrations.CreateModel(
            name="LoginTry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("account", models.CharField(max_length=64)),
                (
                    "origin",
                    models.CharField(help_text="The address, or the browser that this account knows.", max_length=64),
                ),
                ("at", models.DateTimeField()),
            ],
            options={
                "indexes": [
                    models.Index(fields=["origin", "at"], name="login_try_by_origin"),
                    models.Index(fields=["at"], name="login_try_by_time"),
                ],
            },
        ),
    ]
