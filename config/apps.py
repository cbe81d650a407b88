import gc

from django.apps import AppConfig


class ProjectConfig(AppConfig):
    name = "config"
    verbose_name = "Headrace"

    def ready(self) -> None:
        from config import celery  # noqa: F401, PLC0415  (makes it the current app of every process)

        if not gc.isenabled():  # by `manage.py`, while everything was loaded
            gc.freeze()
            gc.enable()
