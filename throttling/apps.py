from django.apps import AppConfig


class ThrottlingConfig(AppConfig):
    name = "throttling"
    default_auto_field = "django.db.models.BigAutoField"
