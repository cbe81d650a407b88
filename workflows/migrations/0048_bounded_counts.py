"""Whether a bulk operation was counted to the end. (The code of before counted each to the end, and sets nothing.)"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("headrace_workflows", "0047_encrypts_payloads")]

    operations = [
        migrations.AddField(
            model_name="bulkoperation",
            name="matched_at_least",
            field=models.BooleanField(
                db_default=False, default=False, help_text="It matched at least so many: no more were counted."
            ),
        ),
    ]
