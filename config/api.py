"""The REST API of the whole project: the workflows' routes, and those of dead letters and alerts."""

from dlq.api import alerts_router, router
from workflows.api.routes import make_api

api = make_api()
api.add_router("/dlq", router)
api.add_router("/alerts", alerts_router)
