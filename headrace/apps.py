from django.apps import AppConfig


class HeadraceConfig(AppConfig):
    """The top of the package: its pages, its static files, and the checks of a project that it is added to."""

    name = "headrace"
    verbose_name = "Headrace"

    def ready(self) -> None:
        from headrace import checks, logs  # noqa: PLC0415  (they need the settings)

        checks.register()
        logs.use_project_logging()
