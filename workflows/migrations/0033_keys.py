import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """Scopes, expiry, use and successors of keys. (The code of before writes none of them.)"""

    dependencies = [
        ("headrace_workflows", "0032_quotas"),
    ]

    operations = [
        migrations.AddField(
            model_name="accesskey",
            name="scopes",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=50),
                blank=True,
                db_default=[],
                help_text="Of an API key; empty: every right.",
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="accesskey",
            name="expires_at",
            field=models.DateTimeField(blank=True, help_text="From then on it is refused.", null=True),
        ),
        migrations.AddField(
            model_name="accesskey",
            name="last_used_at",
            field=models.DateTimeField(blank=True, help_text="To the minute.", null=True),
        ),
        migrations.AddField(
            model_name="accesskey",
            name="replaces",
            field=models.ForeignKey(
                blank=True,
                help_text="The key that it was issued in the place of.",
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="successors",
                to="headrace_workflows.accesskey",
            ),
        ),
        migrations.AddField(
            model_name="organization",
            name="redaction",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=200),
                blank=True,
                db_default=[],
                help_text="Fields whose values nobody is shown: names or paths, like password or data.card.number.",
                size=None,
            ),
        ),
    ]
