"""What comes in from outside, and what fans out: webhooks, events among many waits, maps of many items."""

from __future__ import annotations

import hashlib
import hmac
import json
import statistics
import time
from typing import Any

import httpx
from django.db import connection

from workflows import selectors, services
from workflows.definitions.validate import parse
from workflows.engine.events import receive
from workflows.engine.events.receive import NewEvent
from workflows.models import Organization, Secret, Trigger, Wait

WAITS = 100_000
DELIVERIES = 300
KEY = "bench-webhook-key"


class Edges:
    """An organization of its own; `port` is that of the web."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.organization, _ = Organization.objects.get_or_create(slug="bench-edges", defaults={"name": "Edges"})
        secret = Secret(organization=self.organization, name="HOOK")
        secret.value = KEY
        if not Secret.objects.filter(organization=self.organization, name="HOOK").exists():
            secret.save()
        noop = [{"id": "a", "type": "noop", "config": {"output": "${ item }"}}]
        config = {"items": "${ input.items }", "parallelism": 50, "collect": False}
        self._publish("map", [{"id": "all", "type": "map", "config": config, "steps": noop}])
        hook = {"webhook": "hmac", "secret": "HOOK", "name": "bench/hook"}
        self._publish("hook", [{"id": "a", "type": "noop"}], on=[hook])

    def _publish(self, slug: str, steps: list[dict[str, Any]], **more: Any) -> None:
        services.apply_definition(self.organization, parse({"flow": slug, "steps": steps, **more}))

    def webhook_ms(self) -> list[float]:
        """How long signed deliveries take to be answered, each its own event that starts a run."""
        token = Trigger.objects.get(organization=self.organization, kind=Trigger.Kind.WEBHOOK).token
        url, found = f"http://127.0.0.1:{self._port}/hooks/{token}", []
        with httpx.Client() as client:
            for _ in range(100):
                try:
                    client.get(f"http://127.0.0.1:{self._port}/healthz")
                    break
                except httpx.TransportError:
                    time.sleep(0.2)
            for number in range(DELIVERIES):
                body = json.dumps({"number": number, "at": time.time()}).encode()
                signature = hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()
                started = time.perf_counter()
                answer = client.post(url, content=body, headers={"x-signature": signature})
                found.append((time.perf_counter() - started) * 1e3)
                answer.raise_for_status()
        return found

    def map_ms_per_item(self, items: int) -> float:
        """A map of no-op items, from the run's creation to its end."""
        run_id = services.trigger(self.organization, "map", {"items": list(range(items))}).run_ids[0]
        while (run := selectors.run_detail(self.organization, run_id).run).is_live:
            time.sleep(0.05)
        assert run.ended_at is not None
        return (run.ended_at - run.created_at).total_seconds() * 1e3 / items

    def event_ms(self, waits: int) -> float:
        """An event that ends none of so many open waits for its name: stored and matched, the median of 20."""
        Wait.objects.filter(org_id=self.organization.id).delete()
        with connection.cursor() as cursor:
            cursor.execute(
                """INSERT INTO headrace_workflows_wait (step_run_id, org_id, run_id, kind, event_name, match_path,
                       value_hash, condition, since, looked_back, options, created_at, taken_by)
                   SELECT gen_random_uuid(), %s, gen_random_uuid(), 'event', 'bench/waited', 'data.id', md5(n::text),
                          '', now(), true, '{}', now(), '' FROM generate_series(1, %s) n""",
                [self.organization.id, waits],
            )
            cursor.execute("ANALYZE headrace_workflows_wait")
        spent = []
        for number in range(20):
            started = time.perf_counter()
            receive.receive(self.organization.id, [NewEvent(name="bench/waited", data={"id": number})])
            spent.append((time.perf_counter() - started) * 1e3)
        Wait.objects.filter(org_id=self.organization.id).delete()
        return statistics.median(spent)


def measure(edges: Edges) -> dict[str, float]:
    """Once each: signed deliveries, a small and a large map, an event alone and among many waits."""
    deliveries = edges.webhook_ms()
    small, large = edges.map_ms_per_item(1_000), edges.map_ms_per_item(10_000)
    alone, among = edges.event_ms(0), edges.event_ms(WAITS)
    return {
        "webhook_p50_ms": statistics.median(deliveries),
        "webhook_p95_ms": statistics.quantiles(deliveries, n=20)[-1],
        "map_1000_ms_per_item": small,
        "map_10000_ms_per_item": large,
        "event_alone_ms": alone,
        "event_among_100000_waits_ms": among,
    }
