from django.db import migrations, models


class Migration(migrations.Migration):
    """Words of the code change; every column keeps its name, so that workers of the release before go on."""

    replaces = [("workflows", "0025_names_of_code")]

    dependencies = [("headrace_workflows", "0024_indexes_beside_the_traffic")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.RenameField("step", "is_hook", "is_compensation"),
                migrations.RenameField("steprun", "is_hook", "is_compensation"),
                migrations.RenameField("run", "has_hooks", "has_compensations"),
                migrations.RenameField("steprun", "told_waits", "server_retry_waits"),
                migrations.RenameField("systemfeed", "told_until", "emitted_until"),
                migrations.AlterField(
                    "run",
                    "has_compensations",
                    models.BooleanField(
                        db_column="has_hooks",
                        db_default=False,
                        help_text="Steps may have to be undone before it ends.",
                    ),
                ),
                migrations.AlterField(
                    "step",
                    "is_compensation",
                    models.BooleanField(
                        db_column="is_hook",
                        default=False,
                        help_text="Undoes another step; runs only where that is asked for.",
                    ),
                ),
                migrations.AlterField(
                    "steprun",
                    "is_compensation",
                    models.BooleanField(
                        db_column="is_hook",
                        db_default=False,
                        help_text="Undoes another step of a run that stops.",
                    ),
                ),
                migrations.AlterField(
                    "steprun",
                    "server_retry_waits",
                    models.IntegerField(
                        db_column="told_waits",
                        default=0,
                        help_text="Waits that the other side asked for; they cost no attempt.",
                    ),
                ),
                migrations.AlterField("systemfeed", "emitted_until", models.DateTimeField(db_column="told_until")),
            ]
        )
    ]
