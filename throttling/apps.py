from django.apps import AppConfig


class ThrottlingConfig(AppConfig):
    name = "throttling"
    label = "headrace_throttling"  # tables, permissions and addresses of the admin begin with it
    verbose_name = "Throttling"
    default_auto_field = "django.db.models.BigAutoField"
