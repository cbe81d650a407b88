from celery.signals import worker_init
from django.apps import AppConfig
from django.db.models.signals import post_migrate

from workflows.this_process import configuration

configuration.export()  # before anything is imported that reads the environment


def _publish_code(**_: object) -> None:
    from workflows.functions import publish  # noqa: PLC0415

    publish.publish_at_start()


class WorkflowsConfig(AppConfig):
    name = "workflows"
    label = "headrace_workflows"  # tables, permissions and addresses of the admin begin with it
    verbose_name = "Workflows"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from workflows.steps.registry import load_types  # noqa: PLC0415  (models must be loaded)

        load_types()
        from workflows.engine.celery_tasks import callbacks, watcher  # noqa: PLC0415
        from workflows.engine.events import receive  # noqa: PLC0415
        from workflows.engine.sql import services as token_statements  # noqa: PLC0415
        from workflows.services import invoke  # noqa: PLC0415
        from workflows.steps.tools import TOOLS  # noqa: PLC0415

        TOOLS.watch = watcher.watch
        callbacks.connect()
        from workflows.engine.observe import signals as observe_signals  # noqa: PLC0415

        observe_signals.connect()
        from workflows.engine.waits import rows  # noqa: PLC0415

        rows.connect()
        TOOLS.send_events, TOOLS.invoke, TOOLS.tokens = receive.send, invoke.invoke, token_statements
        from workflows.functions import flows, publish, visiting  # noqa: PLC0415

        TOOLS.code_digests = flows.digests
        TOOLS.visit_function, TOOLS.perform_call = visiting.visit_function, visiting.perform_call
        publish.discover()
        worker_init.connect(_publish_code, weak=False)
        from workflows.engine.pipeline import admit  # noqa: PLC0415
        from workflows.engine.retention import pacing  # noqa: PLC0415
        from workflows.services import bulk, preset_keys, repair, system_events  # noqa: PLC0415
        from workflows.services.access import sign_ins  # noqa: PLC0415

        sign_ins.connect()
        admit.is_on()  # a word in the environment that can't be read ends the process here, and not at its first step
        pacing.check_environment()
        post_migrate.connect(preset_keys.ship, sender=self, dispatch_uid="workflows.services.preset_keys")
        system_events.register(system_events.OF_WORKFLOWS)
        bulk.register(repair.BULK_ACTIONS)
        _register_jobs()


def _register_jobs() -> None:
    from workflows.engine.celery_tasks import tidy  # noqa: PLC0415
    from workflows.engine.events import matching  # noqa: PLC0415
    from workflows.engine.maintenance import measuring, periodic_jobs  # noqa: PLC0415
    from workflows.engine.maintenance.periodic_jobs import Job  # noqa: PLC0415
    from workflows.engine.repair import on_failure  # noqa: PLC0415
    from workflows.engine.retention import pacing  # noqa: PLC0415
    from workflows.engine.waits import rows  # noqa: PLC0415
    from workflows.services import approvals, bulk, schedules, system_events  # noqa: PLC0415
    from workflows.services.flows import archiving  # noqa: PLC0415
    from workflows.services.tenancy import usage  # noqa: PLC0415

    periodic_jobs.register(
        Job(name="left-over events", every_s=1.0, work=matching.match_left_over, is_urgent=True),
        Job(name="follow-up", every_s=1.0, work=lambda: on_failure.follow_up() == on_failure.BATCH),
        Job(name="schedules", every_s=1.0, work=schedules.tick, is_urgent=True),
        Job(name="approvals", every_s=1.0, work=approvals.remind),
        Job(name="system events", every_s=1.0, work=system_events.emit),
        Job(name="deletion of flows", every_s=5.0, work=archiving.delete_rest),
        Job(name="Celery tasks", every_s=2.0, work=tidy.tidy),
        Job(name="waits for rows", every_s=1.0, work=rows.look_after),
        Job(name="ended waits for rows", every_s=60.0, work=rows.forget_ended),
        Job(name="bulk", every_s=0.5, work=bulk.pump),
        Job(name="retention", every_s=pacing.EVERY_S, work=pacing.prune_a_little),
        Job(name="minutes", every_s=20.0, work=measuring.measure),
        Job(name="stored bytes", every_s=5.0, work=usage.measure),
    )
