"""Runs go to a file before they are deleted, and come back from it as they were: ended history that never executes."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from dlq.models import DeadLetter
from tests.integration.api.test_api import Api
from tests.integration.retention.history import LONG_AGO, NOOP, aged, ended, failed, old_event, prune
from tests.support.by_hand import start
from tests.support.workers import await_that
from workflows.models import (
    Event,
    Flow,
    FlowVersion,
    ImportedRun,
    Organization,
    PrunedRun,
    Run,
    Step,
    StepRun,
    SweepFailure,
)
from workflows.services import repair
from workflows.services.retention import exporting, importing, pruning

pytestmark = pytest.mark.usefixtures("published")


def command(name: str, *arguments: str) -> Any:
    out = io.StringIO()
    call_command(name, *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def exported(org: Organization, folder: Path) -> Path:
    command("prune", "--org", org.slug, "--export", str(folder))
    (path,) = folder.glob("*.jsonl.gz")
    return path


def test_an_exported_run_comes_back_as_it_was(org: Organization, api_key: str, tmp_path: Path) -> None:
    api, event = Api(api_key), old_event(org)
    ids = [ended(org, tags=["kept", "eu"]) for _ in range(3)]
    letter = failed(org)
    DeadLetter.objects.filter(run_id=letter).update(status="ignored")
    Run.objects.filter(id=ids[0]).update(event_id=event)
    before = {id_: api.get(f"/runs/{id_}").json() for id_ in (*ids, letter)}
    rows = {id_: list(StepRun.objects.filter(run_id=id_).values()) for id_ in before}
    path = exported(org, tmp_path)
    assert api.get(f"/runs/{ids[0]}").status_code == 404
    done = command("runs", "import", str(path), "--org", org.slug)
    assert (done["runs"], done["known"], done["cutOff"]) == (4, 0, False)
    assert {id_: api.get(f"/runs/{id_}").json() for id_ in before} == before
    assert {id_: list(StepRun.objects.filter(run_id=id_).values()) for id_ in before} == rows
    assert Event.objects.get(id=event).matched_at
    again = command("runs", "import", str(path), "--org", org.slug)
    assert (again["runs"], again["known"]) == (0, 4)
    assert {id_: api.get(f"/runs/{id_}").json() for id_ in before} == before
    assert prune(org)[1]["it was imported"] == 4  # for 30 days
    assert repair.fork_run(org, ids[0], ["a"]).run_id
    ImportedRun.objects.filter(org_id=org.id).update(kept_until=timezone.now())
    prune(org)
    assert set(Run.objects.filter(id__in=before).values_list("id", flat=True)) == {ids[0]}  # the fork is open


def test_a_version_that_is_gone_comes_back_with_its_runs(org: Organization, tmp_path: Path) -> None:
    run_id = ended(org)
    version = Run.objects.get(id=run_id).version_id
    start(org, [{**NOOP, "id": "b"}])
    FlowVersion.objects.filter(flow__organization=org).update(created_at=timezone.now() - LONG_AGO * 20)
    path = exported(org, tmp_path)
    assert not FlowVersion.objects.filter(id=version).exists()
    importing.import_runs(org, path)
    assert FlowVersion.objects.get(id=version).number == 1
    assert Step.objects.filter(version_id=version).count() == 1
    assert Run.objects.get(id=run_id).version.number == 1


def test_old_versions_that_no_run_has_go(org: Organization) -> None:
    run_id = ended(org)
    used = Run.objects.get(id=run_id).version_id
    for key in ("b", "c"):
        start(org, [{**NOOP, "id": key}])
    FlowVersion.objects.filter(flow__organization=org).update(created_at=timezone.now() - LONG_AGO * 20)
    Run.objects.filter(org_id=org.id).exclude(id=run_id).update(
        version_id=Flow.objects.get(organization=org).current_id
    )
    prune(org, subjects=["versions"])
    current = Flow.objects.get(organization=org).current_id
    assert set(FlowVersion.objects.filter(flow__organization=org).values_list("id", flat=True)) == {used, current}


@pytest.mark.parametrize(
    "change", ["another organization", "not ended", "a row less", "no flow", "no export", "version"]
)
def test_a_file_that_can_t_be_brought_back_is_refused_whole(
    org: Organization, other: Organization, tmp_path: Path, change: str
) -> None:
    for _ in range(2):
        ended(org)
    path = exported(org, tmp_path)
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    runs = [line for line in lines if line.get("kind") == "run"]
    if change == "another organization":
        with pytest.raises(importing.ImportRefused, match="another organization"):
            importing.import_runs(other, path)
        return
    if change == "not ended":
        runs[0]["row"] |= {"status": "running", "ended_at": None}
    elif change == "a row less":
        lines.remove(next(line for line in lines if line.get("kind") == "attempt"))
    elif change == "no flow":
        Flow.objects.filter(organization=org).update(organization=other)
    elif change == "version":
        next(line for line in lines if line.get("kind") == "version")["row"]["definition"]["flow"] = "x"
    else:
        lines = lines[1:]
    changed = tmp_path / "changed.jsonl.gz"
    changed.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    with pytest.raises(CommandError):
        command("runs", "import", str(changed), "--org", org.slug)
    assert not Run.objects.filter(org_id=org.id).exists()


def test_a_file_that_is_cut_off_gives_its_whole_pages(org: Organization, tmp_path: Path) -> None:
    first, second = ended(org), ended(org)
    path = tmp_path / "runs.jsonl.gz"
    exporter = exporting.Exporter(path)
    exporter.write([first])
    exporter.write([second])
    exporter.close()
    Run.objects.filter(id__in=[first, second]).delete()
    StepRun.objects.filter(run_id__in=[first, second]).delete()
    path.write_bytes(path.read_bytes()[:-40])
    done = importing.import_runs(org, path)
    assert (done.runs, done.is_cut_off) == (1, True)
    assert list(Run.objects.filter(org_id=org.id).values_list("id", flat=True)) == [first]
    noise = tmp_path / "noise"
    noise.write_bytes(b"no gzip")
    with pytest.raises(importing.ImportRefused, match="no export"):
        importing.import_runs(org, noise)


def test_a_page_that_fails_is_cut_off_and_the_next_ones_come_back(
    org: Organization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (ended(org) for _ in range(3))
    path, exporter = tmp_path / "runs.jsonl.gz", exporting.Exporter(tmp_path / "runs.jsonl.gz")
    exporter.write([first])
    size, rows = path.stat().st_size, exporting._rows

    def breaks(ids: Any) -> Any:
        yield next(rows(ids))
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "_rows", breaks)
    with pytest.raises(KeyboardInterrupt):
        exporter.write([second])
    assert path.stat().st_size == size
    monkeypatch.undo()
    exporter.write([third])
    exporter.close()
    Run.objects.filter(id__in=[first, second, third]).delete()
    done = importing.import_runs(org, path)
    assert (done.runs, done.is_cut_off) == (2, False)
    assert set(Run.objects.filter(org_id=org.id).values_list("id", flat=True)) == {first, third}


def _with_two_pages(org: Organization, path: Path) -> tuple[int, list[UUID]]:
    """Where the second page begins, and the runs, which are deleted."""
    ids = [ended(org) for _ in range(2)]
    exporter = exporting.Exporter(path)
    exporter.write(ids[:1])
    begin = path.stat().st_size
    exporter.write(ids[1:])
    exporter.close()
    Run.objects.filter(id__in=ids).delete()
    return begin, ids


def test_a_page_without_its_end_before_another_is_left_out(org: Organization, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl.gz"
    begin, ids = _with_two_pages(org, path)
    content = path.read_bytes()
    half = gzip.compress(b"".join(gzip.decompress(content[:begin]).splitlines(keepends=True)[:-1]))
    path.write_bytes(half + content[begin:])
    done = importing.import_runs(org, path)
    assert (done.runs, done.is_cut_off) == (1, True)
    assert list(Run.objects.filter(org_id=org.id).values_list("id", flat=True)) == ids[1:]


def test_damage_is_told_and_is_no_file_that_is_cut_off(org: Organization, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl.gz"
    begin, ids = _with_two_pages(org, path)
    content = bytearray(path.read_bytes())
    for place in range(begin + 40, begin + 60):
        content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(CommandError, match="damaged after 1 runs"):
        command("runs", "import", str(path), "--org", org.slug)
    assert list(Run.objects.filter(org_id=org.id).values_list("id", flat=True)) == ids[:1]


def test_a_run_with_a_row_that_can_t_be_brought_back_is_kept(
    org: Organization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, other_run = ended(org), ended(org)
    Run.objects.filter(id=large).update(output={"text": "x" * 20_000})
    monkeypatch.setattr(exporting, "MAX_LINE_BYTES", 10_000)
    path = exported(org, tmp_path)
    assert set(Run.objects.filter(org_id=org.id).values_list("id", flat=True)) == {large}
    assert "RowTooLarge" in SweepFailure.objects.get(sweep="retention", item=str(large)).error
    assert importing.import_runs(org, path).runs == 1
    assert Run.objects.filter(id=other_run).exists()
    SweepFailure.objects.filter(sweep="retention").delete()


def test_a_full_disk_is_a_sentence(org: Organization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = ended(org)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")  # as the kernel's own: it names no file

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(exporting, "sync_folder", lambda _: None)
    with pytest.raises(CommandError, match="can't be written: No space left on device"):
        command("prune", "--org", org.slug, "--export", str(tmp_path))
    assert Run.objects.filter(id=run_id).exists()


def test_what_can_t_be_exported_is_not_deleted(
    org: Organization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = ended(org)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CommandError, match="No space left"):
        command("prune", "--org", org.slug, "--export", str(tmp_path))
    monkeypatch.undo()
    assert Run.objects.filter(id=run_id).exists()
    monkeypatch.setattr(exporting, "_read_member", lambda *_: iter(()))
    with pytest.raises(CommandError, match="read back"):
        command("prune", "--org", org.slug, "--export", str(tmp_path))
    assert Run.objects.filter(id=run_id).exists()


def test_a_pass_that_is_killed_is_ended_by_the_next_and_its_export_is_whole(
    org: Organization, worker_environment: dict[str, str], tmp_path: Path
) -> None:
    ids = [ended(org) for _ in range(30)]
    arguments = [sys.executable, "manage.py", "prune", "--org", org.slug, "--export", str(tmp_path), "--pace", "40"]
    process = subprocess.Popen(arguments, env=worker_environment, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        await_that(lambda: not Run.objects.filter(id__in=ids).exists(), 60, "the runs are deleted")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    killed = StepRun.objects.filter(run_id__in=ids).count()
    assert killed or PrunedRun.objects.filter(org_id=org.id).exists()
    prune(org)
    assert not StepRun.objects.filter(run_id__in=ids).exists()
    assert not PrunedRun.objects.filter(org_id=org.id).exists()
    (path,) = tmp_path.glob("*.jsonl.gz")
    assert importing.import_runs(org, path).runs == 30
    assert Run.objects.filter(id__in=ids).count() == 30


def test_the_command_counts_and_refuses(org: Organization, tmp_path: Path) -> None:
    recent = ended(org)
    Run.objects.filter(id=recent).update(ended_at=timezone.now() - LONG_AGO / 2)
    dry = command("prune", "--org", org.slug, "--dry-run", "--older-than", "10d", "--export", str(tmp_path))
    assert (dry["dryRun"], dry["bySubject"]["completed"]) == (True, 1)
    assert not list(tmp_path.iterdir())
    assert command("prune", "--org", org.slug, "--what", "failed", "--older-than", "10d")["rows"] == 0
    for bad in (
        ["--older-than", "5m"],
        ["--older-than", "soon"],
        ["--pace", "0"],
        ["--what", "audit"],
        ["--what", "letters"],
        ["--org", "nobody"],
        ["--org", ""],
        ["--export", str(tmp_path / "none")],
    ):
        with pytest.raises(CommandError):
            command("prune", "--org", org.slug, *bad)
    assert Run.objects.filter(id=recent).exists()
    assert command("prune", "--org", org.slug, "--older-than", "10d", "--pace", "5000")["byTable"][
        "headrace_workflows_run"
    ] == 1  # fmt: skip
    assert pruning.prune(pruning.Request(organizations=[org])).deleted == {}
    aged(ended(org))
    out = io.StringIO()
    call_command("prune", "--org", org.slug, stdout=out)
    assert "headrace_workflows_run" in out.getvalue()
