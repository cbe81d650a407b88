"""Where the time of a lone run goes: who waits for what, in µs, as medians over many runs.

`python -m bench.profile [--kind noops] [--checkout OTHER]`. The trace costs some µs a line itself.
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import report, variants

CONTAINERS = ("a message is taken", "record and hand over")
"""Lines that have others within them: they tell when something begins, not how long it takes."""
_NUMBER = re.compile(r"[_-]?\d+(_\d+)?$")


@dataclass(frozen=True, kw_only=True)
class Span:
    """One line of a trace, in µs from the call of trigger on."""

    thread: str
    begin: float
    end: float
    what: str


def spans_of(text: str, called: float, ended: float) -> list[Span]:
    """The lines of a trace that fall between two moments (seconds of the epoch), by their begin."""
    found = []
    for line in text.splitlines():
        process, thread, begin, end, what = line.split("\t")
        if called <= float(begin) <= ended:
            name = f"{process} {_NUMBER.sub('', thread)}"
            found.append(
                Span(thread=name, begin=(float(begin) - called) * 1e6, end=(float(end) - called) * 1e6, what=what)
            )
    return sorted(found, key=lambda span: span.begin)


def rows_of(runs: Sequence[Iterable[Span]]) -> list[list[str]]:
    """A row for each thing that happened in most of the runs: when it began, how long it took, and how long nothing
    that is traced had happened before (Python, wake-ups, and the way through the broker)."""
    begins: dict[tuple[str, int], list[float]] = {}
    lasts: dict[tuple[str, int], list[float]] = {}
    gaps: dict[tuple[str, int], list[float]] = {}
    threads: dict[tuple[str, int], str] = {}
    for spans in runs:
        seen: dict[str, int] = {}
        busy_until = 0.0
        for span in spans:
            key = (span.what, seen.get(span.what, 0))
            seen[span.what] = key[1] + 1
            begins.setdefault(key, []).append(span.begin)
            lasts.setdefault(key, []).append(span.end - span.begin)
            gaps.setdefault(key, []).append(max(0.0, span.begin - busy_until))
            threads[key] = span.thread.partition(" ")[2]
            if span.what not in CONTAINERS:
                busy_until = max(busy_until, span.end)
    common = [key for key in begins if len(begins[key]) * 2 > len(runs)]
    rows = [["at, µs", "nothing before, µs", "takes, µs", "what", "thread"]]
    for key in sorted(common, key=lambda key: statistics.median(begins[key])):
        takes = "" if key[0] in CONTAINERS else f"{statistics.median(lasts[key]):,.0f}"
        at, gap = statistics.median(begins[key]), statistics.median(gaps[key])
        rows.append([f"{at:,.0f}", f"{gap:,.0f}", takes, key[0], threads[key]])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=("effects", "noops"), default="effects")
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--checkout", type=Path, help="another checkout than this one")
    parser.add_argument("--var", type=Path, default=variants.ROOT / "var" / "bench")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--place", default="profile", help="the place of the page")
    options = parser.parse_args()
    contender = variants.start("traced", variants.Places(var=options.var, other=options.checkout))
    try:
        contender.do("warm")
        runs = contender.do("profile", count=options.count, kind=options.kind)
    finally:
        contender.end()
    rows = rows_of([spans_of(each["trace"], each["called"], each["ended"]) for each in runs])
    whole = statistics.median((each["ended"] - each["called"]) * 1e6 for each in runs)
    print(report.as_text(rows), f"from the call to the recorded end: {whole:,.0f} µs", sep="")
    if options.page:
        text = f"From the call to the recorded end: {whole:,.0f} µs.\n\n{report.as_markdown(rows)}"
        report.put(options.page, {options.place: text})


if __name__ == "__main__":
    main()
