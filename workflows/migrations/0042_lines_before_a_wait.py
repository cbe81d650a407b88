from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("headrace_workflows", "0029_celery_tasks")]

    operations = [
        migrations.AddField(
            model_name="steprun",
            name="kept_logs",
            field=models.JSONField(
                blank=True, help_text="What its current try has logged before it waited: {try, lines}.", null=True
            ),
        ),
    ]
