from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("headrace_workflows", "0027_flows_in_python")]

    operations = [
        migrations.AddField(
            model_name="worker",
            name="code",
            field=models.JSONField(db_default={}, help_text="The flows in Python whose code it has: their digests."),
        ),
    ]
