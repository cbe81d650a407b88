from django.apps import AppConfig
from django.db.models.signals import post_migrate


class DeadLettersConfig(AppConfig):
    name = "dlq"
    label = "headrace_dlq"  # tables, permissions and addresses of the admin begin with it
    verbose_name = "Dead letters"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from dlq import of_flows, overview, repairs, retention, selectors, services  # noqa: PLC0415  (models first)
        from dlq.alerting.default_rules import ship  # noqa: PLC0415
        from dlq.dashboard.entries import ENTRIES, PLACES  # noqa: PLC0415
        from dlq.failures.record_failures import bury  # noqa: PLC0415
        from dlq.system_events import SOURCE  # noqa: PLC0415
        from workflows.dashboard import navigation  # noqa: PLC0415
        from workflows.dashboard.control import objects  # noqa: PLC0415
        from workflows.edge import redaction  # noqa: PLC0415
        from workflows.engine.retention import ages  # noqa: PLC0415
        from workflows.services import bulk, system_events  # noqa: PLC0415
        from workflows.signals import (  # noqa: PLC0415
            failures_handled,
            flow_closing,
            flow_deleted,
            overview_shown,
            repair_begins,
            run_letters,
            run_repaired,
            runs_deleted,
            runs_expire,
            steps_failed,
        )

        flow_closing.connect(of_flows.open_letters, dispatch_uid="dlq.open_letters")
        runs_expire.connect(retention.keep_runs, dispatch_uid="dlq.keep_runs")
        ages.register(*retention.TABLES)
        runs_deleted.connect(of_flows.delete_of_runs, dispatch_uid="dlq.delete_of_runs")
        flow_deleted.connect(of_flows.delete_of_flow, dispatch_uid="dlq.delete_of_flow")
        overview_shown.connect(overview.shown, dispatch_uid="dlq.overview")
        steps_failed.connect(bury, dispatch_uid="dlq.failures.record_failures")
        failures_handled.connect(services.note_handled, dispatch_uid="dlq.failures_handled")
        repair_begins.connect(repairs.failures_to_repair, dispatch_uid="dlq.repair_begins")
        run_letters.connect(selectors.letters_of_run, dispatch_uid="dlq.run_letters")
        run_repaired.connect(repairs.close, dispatch_uid="dlq.run_repaired")
        post_migrate.connect(ship, sender=self, dispatch_uid="dlq.ship")
        system_events.register({"dead letters": SOURCE})
        bulk.register(services.BULK_ACTIONS)
        redaction.register({"dead letters": selectors.runs_of})
        navigation.register(*ENTRIES)
        objects.register(PLACES)
        _register_jobs()


def _register_jobs() -> None:
    from dlq import repairs, services, tasks  # noqa: PLC0415
    from dlq.alerting import evaluation  # noqa: PLC0415
    from workflows.engine.maintenance import periodic_jobs  # noqa: PLC0415
    from workflows.engine.maintenance.periodic_jobs import Job  # noqa: PLC0415

    periodic_jobs.register(
        Job(name="automatic replays", every_s=5.0, work=services.replay_due),
        Job(name="repairs that have ended", every_s=2.0, work=repairs.settle),
        Job(name="alerts of failures", every_s=2.0, work=evaluation.alert_of_failures),
        Job(name="alert rules", every_s=60.0, work=tasks.evaluate_without_beat, budget_s=60.0),
        Job(name="alert delivery", every_s=2.0, work=tasks.deliver_soon),
    )
