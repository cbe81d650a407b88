"""What observe-only mode costs: a worker of plain Celery tasks that do nothing, with it and without it, in pairs.

`python -m bench.observe [pairs] [tasks]`, on the embedded services under HEADRACE_VAR_DIR unless DATABASE_URL and
REDIS_URL name others. It prints the ratios of the worker's time and CPU time, and of the sender's time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import redis

from bench.observe.app import QUEUE
from devtools import embedded

CLOCK = os.sysconf("SC_CLK_TCK")


def main(pairs: int, tasks: int) -> None:
    """Measure so many pairs, each time the other one first."""
    found: dict[bool, list[tuple[float, float, float]]] = {True: [], False: []}
    for number in range(pairs):
        for is_on in (number % 2 == 0, number % 2 == 1):
            found[is_on].append(once(is_on, tasks))
    names = ("time of the worker", "CPU of the worker", "time of the sender")
    for place, name in enumerate(names):
        ratios = [on[place] / off[place] for on, off in zip(found[True], found[False], strict=True)]
        print(f"{name}: with / without = {statistics.median(ratios):.3f} ({', '.join(f'{r:.3f}' for r in ratios)})")
    off = found[False][0]
    print(f"without: {tasks / off[0]:,.0f} tasks/s, {off[1] / tasks * 1e6:,.0f} µs of CPU a task")


def once(is_on: bool, tasks: int) -> tuple[float, float, float]:
    """Seconds that a worker takes for the tasks, its CPU seconds, and the seconds that sending them takes."""
    environment = {**os.environ, "HEADRACE_OBSERVE": "1" if is_on else "0", "HEADRACE_LOG_LEVEL": "WARNING"}
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as store:
        store.delete(QUEUE)
        send = [sys.executable, "-m", "bench.observe.app", "send", str(tasks)]
        said = subprocess.run(send, env=environment, check=True, capture_output=True, text=True).stdout
        sent_s = float(json.loads(said.splitlines()[-1])["seconds"])
        worker = subprocess.Popen([sys.executable, "-m", "bench.observe.app", "work"], env=environment)
        try:
            _await(lambda: int(str(store.llen(QUEUE))) < tasks * 0.8)  # it has warmed up
            began, cpu = time.monotonic(), _cpu_s(worker.pid)
            left = int(str(store.llen(QUEUE)))
            _await(lambda: int(str(store.llen(QUEUE))) == 0)
            seconds, used = time.monotonic() - began, _cpu_s(worker.pid) - cpu
        finally:
            worker.terminate()
            worker.wait(30)
    return seconds * tasks / left, used * tasks / left, sent_s


def _await(condition: Any) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("The worker does not get on.")
        time.sleep(0.01)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK


if __name__ == "__main__":
    if not os.environ.get("DATABASE_URL"):
        embedded.use()
    subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], check=True)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5, int(sys.argv[2]) if len(sys.argv) > 2 else 5_000)
