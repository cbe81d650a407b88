"""Tables of versions that called the app `throttling` get their names of today. On a new database this does nothing."""

from django.db import migrations

from throttling.migrations import _former_names

MODELS = [
    "defaultsize", "throttlechange", "throttleoverride",
]  # fmt: skip


class Migration(migrations.Migration):
    operations = [
        migrations.RunPython(
            lambda apps, editor: _former_names.rename(editor, __package__, MODELS),
            migrations.RunPython.noop,
            elidable=False,
        )
    ]
