from django.apps import AppConfig
from django.db.models.signals import post_migrate


class WorkflowsConfig(AppConfig):
    name = "workflows"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from workflows.steps.registry import load_types  # noqa: PLC0415  (models must be loaded)

        load_types()
        from workflows import approvals, archiving, bulk, preset_keys, repair, scheduling, system_events  # noqa: F401, PLC0415  (repair registers its actions)
        from workflows.engine import follow_up, jobs, matching  # noqa: PLC0415

        post_migrate.connect(preset_keys.ship, sender=self, dispatch_uid="workflows.preset_keys")
        jobs.register("left-over events", matching.match_left_over, every_s=1.0, is_urgent=True)
        jobs.register("follow-up", lambda: follow_up.follow_up() == follow_up.BATCH, every_s=1.0)
        jobs.register("schedules", scheduling.tick, every_s=1.0, is_urgent=True)
        jobs.register("approvals", approvals.remind, every_s=1.0)
        jobs.register("system events", system_events.tell, every_s=1.0)
        jobs.register("deletion of flows", archiving.delete_rest, every_s=5.0)
        jobs.register("bulk", bulk.pump, every_s=0.5)
