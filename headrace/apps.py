from django.apps import AppConfig


class HeadraceConfig(AppConfig):
    """The top of the package: its pages, its static files, and the checks of a project that it is added to."""

    name = "headrace"
    verbose_name = "Headrace"

    def ready(self) -> None:
        from headrace import checks  # noqa: PLC0415  (it needs the models)

        checks.register()
