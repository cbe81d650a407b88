from django.apps import AppConfig


class WorkflowsConfig(AppConfig):
    name = "workflows"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from workflows.steps.registry import load_types  # noqa: PLC0415  (models must be loaded)

        load_types()
