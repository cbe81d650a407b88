"""The ASGI application (served by uvicorn): the live streams, and behind them Django."""

import os

from django.core.asgi import get_asgi_application

from config import embedded

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
embedded.use()
django = get_asgi_application()

from workflows.api.stream_front import StreamFront  # noqa: E402  (needs the apps)
from workflows.engine import monitoring  # noqa: E402

monitoring.start_beside_workers()
application = StreamFront(django)
