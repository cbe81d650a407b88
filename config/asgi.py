"""The ASGI application (served by uvicorn): the live streams, and behind them Django."""

import os

from django.core.asgi import get_asgi_application

from config import services

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
services.use_services()
django = get_asgi_application()

from workflows.api.streams.front import StreamFront  # noqa: E402  (needs the apps)
from workflows.engine.telemetry import step_events  # noqa: E402

step_events.start_beside_workers()
application = StreamFront(django)
