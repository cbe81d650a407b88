"""The driver of Headrace. Its environment says which variant: limits, services, a delay (`bench.variants`)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.drivers.between import Between
from bench.drivers.wire import Effects, serve

HANDLERS = Path(__file__).resolve().parent.parent / "handlers"


def main() -> None:
    """Start the services, the site and its worker, and do what the bench asks."""
    effects = Effects()
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    os.environ["BENCH_EFFECTS"] = str(effects.port)
    more = {"BENCH_TRACE": ",bench_trace", "BENCH_NO_SEALING": ",bench_no_sealing"}
    os.environ["HEADRACE_STEP_MODULES"] = "bench_effects" + "".join(more[name] for name in more if name in os.environ)
    os.environ["HEADRACE_FLOW_MODULES"] = "bench_flows"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HANDLERS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    sys.path.append(str(HANDLERS))
    if before := os.environ.get("BENCH_BEFORE"):  # a broker of its own
        subprocess.Popen([before], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _await_port(int(os.environ["RABBITMQ_NODE_PORT"]))
    from devtools import embedded  # noqa: PLC0415  (the environment comes first)

    embedded.use()
    os.environ["BENCH_BROKER"] = os.environ["REDIS_URL"]
    delay_ms, counts = float(os.environ.get("BENCH_DELAY_MS", "0")), os.environ.get("BENCH_COUNTS") == "1"
    between = Between(delay_ms) if delay_ms or counts else None
    import django  # noqa: PLC0415

    django.setup()
    _serve(effects, between)


def _await_port(port: int) -> None:
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"nobody listens on port {port}")


def _end(stop_all: Callable[[], object], between: Between | None) -> bool:
    stop_all()
    if between is not None:
        between.stop()
    return True


def _serve(effects: Effects, between: Between | None) -> None:
    from django.conf import settings  # noqa: PLC0415
    from django.core.management import call_command  # noqa: PLC0415

    from bench.drivers import costs, edges, front, gate, lone, many, site, soak  # noqa: PLC0415
    from bench.growth import buffers, filling, pruning  # noqa: PLC0415

    call_command("migrate", verbosity=0, interactive=False)
    place = site.Site(effects)
    web = front.Front(place)
    counts = costs.Costs(place, between)
    if os.environ.get("BENCH_WORKER", "1") == "1":
        place.start_worker()
    if os.environ.get("BENCH_FLOWER") == "1":
        place.processes.start("flower", place.commands["flower"], FLOWER_BASIC_AUTH="bench:bench")

    serve(
        {
            "wake": place.wake,
            "warm": place.warm,
            **lone.verbs(place),
            "many": partial(many.many, place),
            "chain": partial(many.chain, place),
            "single": partial(many.single, place),
            "atomic": partial(many.atomic, place),
            "gap": partial(many.gap, place),
            "http": web.measure,
            "stream": web.stream,
            "costs_lone": counts.of_lone_runs,
            "costs_many": counts.of_many,
            "idle_stack": partial(costs.idle_stack, place),
            "worker_memory": partial(costs.worker_memory, place),
            **_of_memory_and_pages(place, web),
            **_of_sealing(place, web),
            "floor": lambda: {"six_fsyncs_ms": costs.fsyncs_ms(Path(settings.VAR_DIR))},
            "edges": lambda: edges.measure(edges.Edges(web.start())),
            "gate": gate.measure,
            "fill": partial(filling.fill, place),
            "fill_expired": partial(pruning.fill, place),
            "prune_fast": partial(pruning.as_fast_as_it_can, place),
            "prune_beside": partial(pruning.beside, place),
            "buffers": partial(buffers.measure, place),
            "soak_old_runs": partial(soak.old_runs, place),
            "soak_capacity": partial(soak.capacity, place),
            "soak": partial(soak.soak, place),
            "work": place.work,
            "end": partial(_end, place.processes.stop_all, between),
        }
    )


def _of_memory_and_pages(place: Any, web: Any) -> dict[str, Callable[..., Any]]:
    from bench.live import pages, streams  # noqa: PLC0415
    from bench.memory import looks  # noqa: PLC0415

    return {
        "long_runs": partial(looks.long_runs, place),
        "idle_worker": partial(looks.idle_worker, place),
        "live_pages": partial(pages.latencies, web),
        "live_streams": partial(streams.measure, web),
    }


def _of_sealing(place: Any, web: Any) -> dict[str, Callable[..., Any]]:
    from bench.sealing import by_hand  # noqa: PLC0415

    return {"received": web.received, "sealing_off": partial(by_hand.sealing_off, place)}
