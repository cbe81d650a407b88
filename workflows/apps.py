from django.apps import AppConfig
from django.db.models.signals import post_migrate

from workflows.this_process import configuration

configuration.export()  # before anything is imported that reads the environment


class WorkflowsConfig(AppConfig):
    name = "workflows"
    label = "headrace_workflows"  # tables, permissions and addresses of the admin begin with it
    verbose_name = "Workflows"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from workflows.steps.registry import load_types  # noqa: PLC0415  (models must be loaded)

        load_types()
        from workflows.engine.events import receive  # noqa: PLC0415
        from workflows.engine.sql import services as token_statements  # noqa: PLC0415
        from workflows.services import invoke  # noqa: PLC0415
        from workflows.steps.tools import TOOLS  # noqa: PLC0415

        TOOLS.send_event, TOOLS.invoke, TOOLS.tokens = receive.send_one, invoke.invoke, token_statements
        from workflows.engine.events import matching  # noqa: PLC0415
        from workflows.engine.maintenance import periodic_jobs  # noqa: PLC0415
        from workflows.engine.maintenance.periodic_jobs import Job  # noqa: PLC0415
        from workflows.engine.pipeline import admit  # noqa: PLC0415
        from workflows.engine.repair import on_failure  # noqa: PLC0415
        from workflows.services import approvals, bulk, preset_keys, repair, schedules, system_events  # noqa: PLC0415
        from workflows.services.flows import archiving  # noqa: PLC0415

        admit.is_on()  # a word in the environment that can't be read ends the process here, and not at its first step
        post_migrate.connect(preset_keys.ship, sender=self, dispatch_uid="workflows.services.preset_keys")
        system_events.register(system_events.OF_WORKFLOWS)
        bulk.register(repair.BULK_ACTIONS)
        periodic_jobs.register(
            Job(name="left-over events", every_s=1.0, work=matching.match_left_over, is_urgent=True),
            Job(name="follow-up", every_s=1.0, work=lambda: on_failure.follow_up() == on_failure.BATCH),
            Job(name="schedules", every_s=1.0, work=schedules.tick, is_urgent=True),
            Job(name="approvals", every_s=1.0, work=approvals.remind),
            Job(name="system events", every_s=1.0, work=system_events.emit),
            Job(name="deletion of flows", every_s=5.0, work=archiving.delete_rest),
            Job(name="bulk", every_s=0.5, work=bulk.pump),
        )
