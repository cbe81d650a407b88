"""The benchmark: contenders in turn, one active at a time; medians of paired ratios with their 95 % intervals.

Never a test: it measures, and says which goals hold. A short look at one row takes two minutes:

    python -m bench --only lone --pairs 3
    python -m bench --only chain --against ../other-checkout
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench import experiments, report, results, rounds, variants
from bench.experiments import Experiment


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these experiments (or groups: http)")
    parser.add_argument("--pairs", type=int, help="rounds of each (default: 9 where there is something to compare)")
    parser.add_argument(
        "--contenders", nargs="+", default=[], metavar="NAME", help="of those of an experiment, only these"
    )
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="this checkout beside another one")
    parser.add_argument("--idle-s", type=float, default=experiments.IDLE_S, help="how long “after idleness” is (60)")
    parser.add_argument("--append", action="store_true", help="add the rounds to those that the file has")
    parser.add_argument("--more", action="store_true", help="add only the rounds that the file has too few")
    parser.add_argument(
        "--by", default="", metavar="COMMAND", help="measure while this command lets a shell run: a lock"
    )
    parser.add_argument(
        "--var", type=Path, default=variants.ROOT / "var" / "bench", help="where contenders keep their data"
    )
    parser.add_argument("--out", type=Path, default=variants.ROOT / "var" / "bench.json")
    parser.add_argument(
        "--page", type=Path, nargs="+", default=[], help="pages whose tables are filled with what the file has"
    )
    parser.add_argument("--report", action="store_true", help="measure nothing, show the file")
    parser.add_argument("--list", action="store_true", help="show the names of all experiments")
    return parser.parse_args()


def main() -> None:
    signal.signal(signal.SIGTERM, _end)
    options = _options()
    if options.list:
        print("".join(f"{each.name:18} {each.title}\n" for each in experiments.ALL), end="")
        return
    names = tuple(options.only) or (experiments.OLD_AND_NEW if options.against else ())
    wanted = [_narrowed(each, options) for each in experiments.chosen(names)]
    if not options.report:
        _measure(wanted, options)
    everything = results.load(options.out)
    print(report.show(everything, [each.name for each in wanted] if names else ()))
    for page in options.page:
        missing = report.fill(page, everything)
        print(f"{page} is filled; not measured: {', '.join(missing) or 'nothing'}")


def _end(*_: object) -> None:
    """Frozen contenders must not stay behind: no second signal disturbs their end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


def _narrowed(experiment: Experiment, options: argparse.Namespace) -> Experiment:
    if options.against:
        first = experiment.contenders[0]
        return replace(experiment, contenders=(first, "old"), title=f"{experiment.title}: this checkout, the other one")
    if options.contenders:
        kept = tuple(name for name in experiment.contenders if name in options.contenders)
        return replace(experiment, contenders=kept or experiment.contenders)
    return experiment


def _measure(wanted: Sequence[Experiment], options: argparse.Namespace) -> None:
    """Measure them one after the other; each group of rounds is put into the file at once."""
    places = variants.Places(var=options.var, other=options.against.resolve() if options.against else None)
    session = rounds.Session(places, idle_s=options.idle_s, turn=lambda: _turn(options.by), say=rounds.to_stderr)
    try:
        for position, experiment in enumerate(wanted):
            session.keep_only(name for each in wanted[position:] for name in each.contenders)
            pairs, append = options.pairs or experiment.pairs, options.append or options.more
            if options.more:
                pairs -= results.rounds_of(results.load(options.out), experiment.name)
            for measured in session.measure(experiment, pairs) if pairs > 0 else ():
                results.store(options.out, experiment, measured, append=append)
                append = True
    finally:
        session.end()


@contextmanager
def _turn(command: str) -> Iterator[None]:
    """Hold what the command holds (a lock on the machine, say), from when it lets a shell begin."""
    if not command:
        yield
        return
    holder = subprocess.Popen(
        [*shlex.split(command), "sh", "-c", "echo; read _"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        holder.stdout.readline()
    except BaseException:
        os.killpg(holder.pid, signal.SIGTERM)  # nobody must wait in line for us any more
        raise
    try:
        yield
    finally:
        with contextlib.suppress(BrokenPipeError):
            holder.stdin.close()
        holder.wait()


if __name__ == "__main__":
    main()
