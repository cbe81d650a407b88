"""The Celery app whose tasks are observed by the bench: `send <count>` sends tasks, `work` is a worker."""

from __future__ import annotations

import json
import os
import sys
import time

from celery import Celery

QUEUE = "bench.observed"
app = Celery("observed", broker=os.environ.get("REDIS_URL"), set_as_current=False)
app.conf.update(task_ignore_result=True, task_default_queue=QUEUE, worker_hijack_root_logger=False)


@app.task(name="bench.observed.nothing")
def nothing(number: int) -> int:
    return number


def main() -> None:
    """Set Django up as a project does that has Headrace, and do what is asked for."""
    import django  # noqa: PLC0415

    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    django.setup(set_prefix=False)
    app.set_current()
    if sys.argv[1] == "send":
        nothing.delay(0)
        began = time.perf_counter()
        for number in range(int(sys.argv[2]) - 1):
            nothing.delay(number)
        print(json.dumps({"seconds": time.perf_counter() - began}))
    else:
        app.worker_main(["worker", "-P", "solo", "-l", "WARNING", "--without-gossip", "--without-mingle"])


if __name__ == "__main__":
    main()
