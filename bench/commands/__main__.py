"""Seconds until the first output of each command, the median of some: `python -m bench.commands [--repeats 5]`.

`--help` of all of them, and the reads that cost little. The services are those of the environment, or embedded ones
that run already when the first command starts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

from bench import report
from bench.variants import ROOT

READS = (
    ("flows", "list"), ("runs", "list"), ("limits", "list"), ("dlq", "list"), ("alerts", "list"), ("audit", "list"),
    ("organization", "list"), ("secret", "list"), ("retention", "list"), ("pauses", "list"), ("bulk", "list"),
)  # fmt: skip
FOLDERS = ("workflows", "dlq", "devtools")
AT_MOST_S = 0.7


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.commands", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="the names of commands")
    options = parser.parse_args()
    from devtools import embedded  # noqa: PLC0415  (it reads the environment)

    embedded.use()
    subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], cwd=ROOT, check=True)
    create = [sys.executable, "manage.py", "organization", "create", "default"]
    subprocess.run(create, cwd=ROOT, check=False, capture_output=True)  # it may be there
    names = sorted(path.stem for each in FOLDERS for path in (ROOT / each / "management/commands").glob("[a-z]*.py"))
    asked = [*((name, "--help") for name in names), *READS]
    rows = [["command", "first output, s", "CPU, s", ""]]
    rows += [row(words, options.repeats) for words in asked if not options.only or words[0] in options.only]
    sys.stdout.write(report.as_text(rows))


def row(words: tuple[str, ...], repeats: int) -> list[str]:
    """The medians of a command, once it has been started before."""
    once(words)
    found = [once(words) for _ in range(repeats)]
    first_s, cpu_s = (statistics.median(values) for values in zip(*found, strict=True))
    return [" ".join(words), report.number(first_s), report.number(cpu_s), "slow" if first_s > AT_MOST_S else ""]


def once(words: tuple[str, ...]) -> tuple[float, float]:
    """Seconds until a command's first output, and those of CPU until its end. Raises RuntimeError where it fails."""
    before, began = os.times(), time.monotonic()
    with subprocess.Popen(
        [sys.executable, "manage.py", *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    ) as process:
        assert process.stdout is not None
        heard = process.stdout.read(1)
        first_s = time.monotonic() - began
        heard += process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)}: {heard.decode(errors='replace')[-2_000:]}")
    after = os.times()
    return first_s, after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    main()
