"""Calls every address in a process that has Postgres and no store; prints the answers as JSON. For test_away."""

from __future__ import annotations

import json
import sys
from typing import Any

import django

django.setup()

from django.test.utils import setup_test_environment  # noqa: E402  (settings first)

setup_test_environment()

from tests.integration.api.test_edges import ROUTES, Site  # noqa: E402
from workflows.models import Organization, StepRun  # noqa: E402

METHODS = {"api/": ("GET", "POST", "PUT", "DELETE"), "e/": ("POST",), "hooks/": ("POST",), "callbacks/": ("POST",)}
BODIES = {"e/": b'{"name": "edge/event"}', "api/workflows/": b'{"triggerData": {}}'}


def main(slug: str) -> list[dict[str, Any]]:
    site = Site(Organization.objects.get(slug=slug))
    step_run = StepRun.objects.filter(run_id=site.known["run_id"])[0]
    site.known["step_run_id"] = str(step_run.id)
    StepRun.objects.filter(id=step_run.id).update(status="ready")
    return [_call(site, method, route, step_run) for route in ROUTES for method in _methods(route)]


def _methods(route: str) -> tuple[str, ...]:
    return next((methods for start, methods in METHODS.items() if route.startswith(start)), ("GET", "POST"))


def _call(site: Site, method: str, route: str, step_run: StepRun) -> dict[str, Any]:
    query = f"?stepRun={step_run.id}" if route == "api/limits/explain" else ""
    body = next((each for start, each in BODIES.items() if route.startswith(start)), b"{}")
    client = site.keyed if route.startswith("api/") else site.browser
    answer = client.generic(method, site.address(route) + query, body, content_type="application/json")
    if answer.streaming:
        answer.close()
    return {
        "method": method,
        "route": route,
        "status": answer.status_code,
        "retryAfter": answer.get("Retry-After"),
        "body": "" if answer.streaming else answer.content.decode(errors="replace")[:2_000],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])))
