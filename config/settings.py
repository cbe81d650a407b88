"""Django settings. What a deployment may change comes from `config.env`; the rest is the same everywhere."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import django_stubs_ext
from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict

from config import env
from config.logging import configure

django_stubs_ext.monkeypatch()  # makes ModelAdmin[…] and the like valid at run time
ENVIRONMENT = env.read()
BASE_DIR = env.BASE_DIR
VAR_DIR = ENVIRONMENT.var_dir

DEBUG = ENVIRONMENT.debug
if ENVIRONMENT.database_url and not ENVIRONMENT.secret_key:
    raise ImproperlyConfigured("Set HEADRACE_SECRET_KEY to a long random text: it signs sessions and encrypts secrets.")
SECRET_KEY = ENVIRONMENT.secret_key or "only-for-tools-that-open-no-database"
ALLOWED_HOSTS = [*(ENVIRONMENT.allowed_hosts or ("localhost", "127.0.0.1", "[::1]"))]
CSRF_TRUSTED_ORIGINS = [*ENVIRONMENT.csrf_trusted_origins]

# Only the web imports ninja (it brings Django's test client along), so it is no installed app: these are its files.
NINJA_DIR = Path(importlib.util.find_spec("ninja").origin or "").parent  # type: ignore[union-attr]

# Django 5.2 has no tasks of its own: they are the package django-tasks, where it is installed.
HAS_DJANGO_TASKS = importlib.util.find_spec("django.tasks") is not None
TASK_APPS = ["django_tasks"] if not HAS_DJANGO_TASKS and importlib.util.find_spec("django_tasks") else []
if HAS_DJANGO_TASKS or TASK_APPS:
    TASKS: dict[str, dict[str, Any]] = {"default": {"BACKEND": "workflows.django_tasks.HeadraceBackend"}}

INSTALLED_APPS = [
    "config.admin_pages.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_celery_results",
    "django_celery_beat",
    "throttling",
    "workflows",
    "dlq",
    "config",
    *TASK_APPS,
    *(["devtools"] if ENVIRONMENT.embedded else []),
]
MIDDLEWARE = [
    "workflows.api.edge.middleware.EdgeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "config.browser_policy.browser_policy",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates", NINJA_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]


def _pool(options: str) -> dict[str, Any]:
    """Django's connections come from a pool per process; size 0 does without (for pgbouncer)."""
    size = 0 if ENVIRONMENT.db_pooler else ENVIRONMENT.db_pool_size
    if not size:
        return {"options": options} if options else {}
    return {
        "pool": {"min_size": 1, "max_size": size, "timeout": 10},
        "options": f"{options} -c plan_cache_mode=force_generic_plan -c jit=off".strip(),
    }


def _database(url: str) -> dict[str, Any]:
    """Django's settings of a Postgres address (everything that libpq accepts)."""
    parts = conninfo_to_dict(url) if url else {"dbname": "headrace"}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.pop("dbname", "headrace"),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": str(parts.pop("port", "")),
        "DISABLE_SERVER_SIDE_CURSORS": ENVIRONMENT.db_pooler,
        "OPTIONS": {
            "application_name": "headrace",
            "prepare_threshold": None if ENVIRONMENT.db_pooler else 2,
            # Only the engine's statements are prepared here (the ORM binds on the client): plan them once.
            # (Not without a pool: pgbouncer, for which that is, may refuse options.)
            **_pool(str(parts.pop("options", ""))),
            **parts,
        },
    }


DATABASES = {"default": _database(ENVIRONMENT.database_url)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STATIC_ROOT.mkdir(parents=True, exist_ok=True)
STATICFILES_DIRS = [BASE_DIR / "static", NINJA_DIR / "static"]
WHITENOISE_USE_FINDERS = True
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"
SESSION_COOKIE_HTTPONLY = True
if ENVIRONMENT.https:
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = 3600
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"  # an address of a page goes to no other site
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 8 * 1024 * 1024
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGGING_CONFIG = None
configure(log_format=ENVIRONMENT.log_format, level=ENVIRONMENT.log_level)

# What Headrace itself is told, it reads from the environment: workflows/this_process/configuration.py
# Celery: the settings that are the same everywhere are in workflows/this_process/celery_app.py.
CELERY_RESULT_BACKEND = "django-db"
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
DJANGO_CELERY_BEAT_TZ_AWARE = True
