"""The ASGI application (served by uvicorn): health and live streams, and behind them Django."""

import os

import django

from config import services

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
services.use_services()
django.setup(set_prefix=False)

from django.middleware.clickjacking import XFrameOptionsMiddleware  # noqa: E402
from django.middleware.security import SecurityMiddleware  # noqa: E402

from config.browser_policy import browser_policy  # noqa: E402
from workflows.api.edge.handler import ThreadHandler  # noqa: E402  (needs the apps)
from workflows.api.streams.front import Front  # noqa: E402
from workflows.engine.telemetry import step_events  # noqa: E402
from workflows.this_process.configuration import configuration  # noqa: E402

step_events.start_beside_workers()
HEADERS = (browser_policy, SecurityMiddleware, XFrameOptionsMiddleware)
application = Front(ThreadHandler(configuration().web_threads, HEADERS), HEADERS)
