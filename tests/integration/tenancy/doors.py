"""The ways in: an event, a webhook, a run."""

from __future__ import annotations

import json
from typing import Any

from django.test import Client

from workflows.models import AccessKey, Organization, Trigger

NOOP = [{"id": "a", "type": "noop"}]


class Doors:
    """Every way in, by one event or run."""

    def __init__(self, org: Organization) -> None:
        self.event_key = AccessKey.issue(org, "event", "q")[1]
        api_key = AccessKey.issue(org, "api", "q")[1]
        self.keyed = Client(headers={"authorization": f"Bearer {api_key}"})
        self.token = Trigger.objects.get(flow__organization=org, kind="webhook").token

    def event(self, count: int = 1) -> Any:
        body = json.dumps([{"name": f"quota/{number}"} for number in range(count)])
        return Client().post(f"/e/{self.event_key}", body, content_type="text/plain")

    def hook(self) -> Any:
        return Client().post(f"/hooks/{self.token}", "{}", content_type="application/json")

    def run(self, count: int = 0) -> Any:
        body = json.dumps([{"delay": "1h"}] * count if count else {"delay": "1h"})
        return self.keyed.post("/api/workflows/counted/run", body, content_type="application/json")
