from django.db import migrations, models


class Migration(migrations.Migration):
    replaces = [("workflows", "0020_source")]
    dependencies = [("headrace_workflows", "0019_compute")]

    operations = [
        migrations.AddField(
            model_name="flowversion",
            name="source",
            field=models.TextField(
                blank=True,
                db_default="",
                help_text="The YAML that it was published from, with its comments; empty for JSON.",
            ),
        ),
        migrations.AlterField(
            model_name="flowversion",
            name="checksum",
            field=models.CharField(help_text="Of the definition as canonical JSON.", max_length=64),
        ),
    ]
