from django.apps import AppConfig


class DeadLettersConfig(AppConfig):
    name = "dlq"
    verbose_name = "Dead letters"
    default_auto_field = "django.db.models.BigAutoField"
