from django.apps import AppConfig
from django.db.models.signals import post_migrate


class WorkflowsConfig(AppConfig):
    name = "workflows"
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
        from workflows.engine.repair import on_failure  # noqa: PLC0415
        from workflows.services import approvals, bulk, preset_keys, repair, schedules, system_events  # noqa: F401, PLC0415
        from workflows.services.flows import archiving  # noqa: PLC0415  (repair registers its actions)

        post_migrate.connect(preset_keys.ship, sender=self, dispatch_uid="workflows.services.preset_keys")
        periodic_jobs.register("left-over events", matching.match_left_over, every_s=1.0, is_urgent=True)
        periodic_jobs.register("follow-up", lambda: on_failure.follow_up() == on_failure.BATCH, every_s=1.0)
        periodic_jobs.register("schedules", schedules.tick, every_s=1.0, is_urgent=True)
        periodic_jobs.register("approvals", approvals.remind, every_s=1.0)
        periodic_jobs.register("system events", system_events.emit, every_s=1.0)
        periodic_jobs.register("deletion of flows", archiving.delete_rest, every_s=5.0)
        periodic_jobs.register("bulk", bulk.pump, every_s=0.5)
