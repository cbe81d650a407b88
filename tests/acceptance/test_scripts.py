"""The scripts of `scripts/`, against a live stack: they check by themselves what they claim."""

from __future__ import annotations

import subprocess

from config.env import BASE_DIR
from tests.support.instance import Instance


def script(instance: Instance, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [f"scripts/{name}.sh", *arguments], cwd=BASE_DIR, env=instance.environment, capture_output=True, text=True,
        check=False, timeout=280,
    )  # fmt: skip


def test_a_new_instance_says_that_ten_runs_work_at_once(instance: Instance) -> None:
    with instance.client() as client:
        stats = client.get("/api/workflows/queue/stats").json()
    assert stats["capacity"]["message"] == "Running up to 10 workflows concurrently. 0 active, 0 queued."
    assert "At most 10 runs work at once and 100 start in 60 s (by the database)" in instance.command("doctor").stdout


def test_the_observability_script_holds(instance: Instance) -> None:
    done = script(instance, "test-observability")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
    assert done.stdout.rstrip().endswith("All claims hold.")
    assert done.stdout.count("  ok ") >= 24


def test_the_rate_limits_script_holds(instance: Instance) -> None:
    for type_ in ("data_transform", "sandbox_async", "code_execution"):
        instance.command("limits", "set", "--type", type_, "--all", "--concurrency", "50", "--rate", "10000/60s")
    instance.command("limits", "set", "--global", "--concurrency", "50", "--rate", "10000/60s")
    done = script(instance, "test-rate-limits", "30", "10")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "at most 10 at once, 20 per 6 s" in done.stdout
    assert "FAILED" not in done.stdout


def test_the_scripts_fail_where_a_claim_does_not_hold(instance: Instance) -> None:
    """The demo task without its limits and with another number of tries."""
    text = instance.command("flows", "export", "demo-task").stdout
    changed = instance.var / "changed.yaml"
    changed.write_text(
        text.replace("concurrency: [{limit: 10, scope: run}]", "").replace("throttle: {limit: 20, period: 60s}", "")
        .replace("retry: {preset: demo}", "retry: {attempts: 2, delay: 10ms}")
    )  # fmt: skip
    instance.command("limits", "set", "--runs", "--concurrency", "100", "--rate", "1000/60s")
    applied = instance.command("flows", "apply", str(changed))
    assert "version 2 published" in applied.stdout, applied.stdout + applied.stderr
    done = script(instance, "test-observability")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED fails-at-step-2: step-2-process was tried six times" in done.stdout
    done = script(instance, "test-rate-limits", "30", "10")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED at most 20 started in any 6 s" in done.stdout
