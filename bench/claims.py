"""What a durable claim costs: the claim statement with its commit on disk or not, by batch and by callers at once.

`python -m bench.claims`. The two kinds take turns, so that noise hits both alike (docs/adr/0012-durable-claims.md).
"""

from __future__ import annotations

import os
import statistics
import threading
import time
import uuid
from collections.abc import Sequence

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ["HEADRACE_LOG_LEVEL"] = "WARNING"

from devtools import embedded

embedded.use()

import django  # noqa: E402

django.setup()

from django.core.management import call_command  # noqa: E402

from workflows import services, this_process  # noqa: E402
from workflows.definitions.validate import parse  # noqa: E402
from workflows.engine.pipeline.dispatcher import Dispatcher  # noqa: E402
from workflows.engine.state import database  # noqa: E402
from workflows.engine.state.records import ReadyStep  # noqa: E402
from workflows.engine.state.transitions import steps as step_transitions  # noqa: E402
from workflows.models import Organization, StepRun  # noqa: E402

STEPS = {
    "pure": {"id": "a", "type": "noop"},
    "outside": {"id": "a", "type": "http_request", "config": {"url": "http://127.0.0.1:1/"}},
}
BATCHES = (1, 10, 50)
CALLERS = (1, 8)
CALLS = 60


def main() -> None:
    call_command("migrate", verbosity=0, interactive=False)
    nobody: Dispatcher = Nobody()
    with this_process.replaced(Dispatcher, nobody):
        compare()


class Nobody(Dispatcher):
    """Dispatches nothing: the claims here are made by ids."""

    def start(self, steps: Sequence[ReadyStep]) -> None:
        pass

    submit = start


def compare() -> None:
    organization = Organization.objects.create(slug=f"bench-{uuid.uuid4().hex[:8]}", name="Bench")
    for kind, step in STEPS.items():
        services.apply_definition(organization, parse({"flow": kind, "steps": [step]}))
    for callers in CALLERS:
        for batch in BATCHES:
            times: dict[str, list[float]] = {kind: [] for kind in STEPS}
            for _ in range(3):
                for kind in STEPS:
                    times[kind] += measure(organization, kind, batch, callers)
            row = {kind: statistics.median(values) * 1e3 for kind, values in times.items()}
            print(f"callers {callers}, batch {batch}: " + ", ".join(f"{kind} {ms:.2f} ms" for kind, ms in row.items()))


def measure(organization: Organization, kind: str, batch: int, callers: int) -> list[float]:
    """Seconds of each claim."""
    runs = services.trigger_many(organization, kind, [{}] * (CALLS // callers * callers * batch)).run_ids
    ids = [str(id_) for id_ in StepRun.objects.filter(run_id__in=runs).values_list("id", flat=True)]
    batches = [ids[start : start + batch] for start in range(0, len(ids), batch)]
    taken: list[float] = []

    def work(own: list[list[str]]) -> None:
        database.adopt()
        worker = uuid.uuid4()
        for part in own:
            began = time.perf_counter()
            claimed = step_transitions.claim([(id_, 1) for id_ in part], worker=worker).claims
            taken.append(time.perf_counter() - began)
            assert len(claimed) == len(part)
        database.close()

    threads = [threading.Thread(target=work, args=(batches[number::callers],)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken


if __name__ == "__main__":
    main()
