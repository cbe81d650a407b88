"""Which organizations have their payloads stored encrypted, and the keys that their flows compute hashed."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("headrace_workflows", "0046_tags_validated")]

    operations = [
        migrations.AddField(
            model_name="organization",
            name="encrypts_payloads",
            field=models.BooleanField(
                db_default=False, default=False, editable=False, help_text="Payloads are stored encrypted."
            ),
        ),
        migrations.AddField(
            model_name="organization",
            name="hashes_keys",
            field=models.BooleanField(
                db_default=False,
                default=False,
                editable=False,
                help_text="Idempotency keys that flows compute are stored hashed.",
            ),
        ),
    ]
