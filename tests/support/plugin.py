"""Loaded first (`-p tests.support.plugin`): the embedded services of the tests, beside those of a running `make up`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.processes import reaper

ROOT = Path(__file__).resolve().parent.parent.parent
# Each lane of a run in several (pytest-xdist) has services, workers and logs of its own; it inherits the addresses of
# those that the process before it has started.
_LANE = os.environ.get("PYTEST_XDIST_WORKER", "")
if _LANE and os.environ.get("HEADRACE_EMBEDDED"):
    for _name in ("DATABASE_URL", "REDIS_URL", "HEADRACE_SECRET_KEY"):
        os.environ.pop(_name, None)
os.environ["HEADRACE_VAR_DIR"] = str(ROOT / "var" / (f"test-{_LANE}" if _LANE else "test"))
os.environ.setdefault("HEADRACE_LOG_LEVEL", "WARNING")
os.environ["HEADRACE_DB_POOL_SIZE"] = "0"  # the pool would keep its connections to the database before its renaming
os.environ["HEADRACE_STEP_MODULES"] = "tests.support.probes"
os.environ["HEADRACE_FLOW_MODULES"] = (
    "tests.support.python_flows.basic,tests.support.python_flows.more,tests.support.python_flows.gathers,"
    "tests.support.python_flows.hidden,tests.support.python_flows.orders,tests.support.python_flows.branches,"
    "examples.python"
)
os.environ["HEADRACE_ALLOWED_PRIVATE_HOSTS"] = "127.0.0.1,localhost"

from devtools import embedded  # noqa: E402  (reads the environment)

embedded.use()
os.environ[reaper.MARK] = os.environ["HEADRACE_VAR_DIR"]  # whatever the tests start from now on has it
reaper.start(Path(os.environ["HEADRACE_VAR_DIR"]))
_FAILURES = ROOT / "var" / "failures.txt"


@pytest.hookimpl(optionalhook=True)  # tests of the installed package run without pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    from tests.support.lanes import make_scheduler  # only a run in lanes needs it

    return make_scheduler(config, log)


def pytest_sessionstart() -> None:
    if not _LANE:
        _FAILURES.unlink(missing_ok=True)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write each failure at once (var/failures.txt): a run of all tests takes minutes, and may be interrupted."""
    if report.failed and not _LANE:
        with _FAILURES.open("a") as file:
            file.write(f"=== {report.nodeid} ({report.when})\n{report.longreprtext}\n\n")
