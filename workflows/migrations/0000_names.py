"""Tables of versions that called the app `workflows` get their names of today. On a new database this does nothing."""

from django.db import migrations

from throttling.migrations import _former_names

MODELS = [
    "accesskey", "attempt", "bulkoperation", "cancelrule", "cronfire", "event", "eventschema", "fanout", "flow",
    "flowversion", "idempotencykey", "item", "leaderlease", "logintry", "oauthcredential", "operationchange",
    "organization", "run", "runstart", "secret", "step", "steprun", "sweepfailure", "systemfeed", "trigger",
    "triggeroutcome", "wait", "worker",
]  # fmt: skip


class Migration(migrations.Migration):
    operations = [
        migrations.RunPython(
            lambda apps, editor: _former_names.rename(editor, __package__, MODELS),
            migrations.RunPython.noop,
            elidable=False,
        )
    ]
