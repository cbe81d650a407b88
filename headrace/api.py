"""The REST API with all routers: the workflows' routes, and those of dead letters and alerts."""

from __future__ import annotations

from ninja import NinjaAPI

from dlq.api import alerts_router, router
from workflows.api import routes


def make_api() -> NinjaAPI:
    """The API with all routers."""
    made = routes.make_api()
    made.add_router("/dlq", router)
    made.add_router("/alerts", alerts_router)
    return made


api = make_api()
