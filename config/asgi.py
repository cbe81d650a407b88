"""The ASGI application (served by uvicorn)."""

import os

from django.core.asgi import get_asgi_application

from config import embedded

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
embedded.use()
application = get_asgi_application()
