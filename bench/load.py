"""A real load generator where one is installed (wrk, oha or hey): its command line, and what it says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TOOLS = ("wrk", "oha", "hey")
_WRK = """wrk.method = "{method}"
wrk.body = {body}
{headers}
done = function(summary, latency, requests)
  io.write(string.format("BENCH %d %d %d %f %f\\n", summary.duration, summary.requests,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write
    + summary.errors.timeout, latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a load generator has found; times in milliseconds."""

    requests: int
    errors: int
    per_s: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, kw_only=True)
class Call:
    """The request that is sent again and again."""

    url: str
    method: str = "GET"
    body: str = ""
    headers: Mapping[str, str]


class NoLoadGenerator(RuntimeError):
    """Neither wrk nor oha nor hey is installed: HTTP is not measured."""


def tool() -> str:
    """The load generator that is installed. Raises NoLoadGenerator."""
    for name in TOOLS:
        if shutil.which(name):
            return name
    raise NoLoadGenerator((NoLoadGenerator.__doc__ or "").strip())


def run(call: Call, *, connections: int, seconds: int) -> Load:
    """Send the request over so many connections for so long."""
    name = tool()
    with tempfile.TemporaryDirectory() as directory:
        body = Path(directory) / "body"
        body.write_text(call.body)
        script = Path(directory) / "call.lua"
        script.write_text(wrk_script(call))
        command = {
            "wrk": ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script), call.url],
            "oha": ["oha", "-c", str(connections), "-z", f"{seconds}s", "--no-tui", "--output-format", "json"],
            "hey": ["hey", "-c", str(connections), "-z", f"{seconds}s"],
        }[name]
        if name != "wrk":
            command += ["-m", call.method, *(["-D", str(body)] if call.body else [])]
            command += [part for key, value in call.headers.items() for part in ("-H", f"{key}: {value}")]
            command.append(call.url)
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    return {"wrk": parse_wrk, "oha": parse_oha, "hey": parse_hey}[name](said)


def wrk_script(call: Call) -> str:
    """The request as wrk reads it, in Lua."""
    headers = "\n".join(f"wrk.headers[{_lua(key)}] = {_lua(value)}" for key, value in call.headers.items())
    return _WRK.format(method=call.method, body=_lua(call.body) if call.body else "nil", headers=headers)


def _lua(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def parse_wrk(said: str) -> Load:
    """From the line that our script writes; its times are in µs."""
    found = re.search(r"^BENCH (\d+) (\d+) (\d+) ([\d.]+) ([\d.]+)$", said, re.MULTILINE)
    if not found:
        raise ValueError(f"wrk said nothing that is known: {said[-500:]}")
    duration, requests, errors = (int(found[number]) for number in (1, 2, 3))
    return Load(
        requests=requests,
        errors=errors,
        per_s=requests / (duration / 1e6),
        p50_ms=float(found[4]) / 1e3,
        p99_ms=float(found[5]) / 1e3,
    )


def parse_oha(said: str) -> Load:
    """From oha's JSON; its times are in seconds."""
    told = json.loads(said)
    codes: dict[str, int] = told.get("statusCodeDistribution", {})
    failed: dict[str, int] = told.get("errorDistribution", {})
    # What was under way at the end of the time is no error.
    errors = sum(count for why, count in failed.items() if "deadline" not in why)
    errors += sum(count for code, count in codes.items() if not code.startswith("2"))
    return Load(
        requests=sum(codes.values()),
        errors=errors,
        per_s=float(told["summary"]["requestsPerSec"]),
        p50_ms=float(told["latencyPercentiles"]["p50"]) * 1e3,
        p99_ms=float(told["latencyPercentiles"]["p99"]) * 1e3,
    )


def parse_hey(said: str) -> Load:
    """From hey's report; its times are in seconds."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    percentiles = dict(re.findall(r"^\s*(\d+)%+ in ([\d.]+) secs", said, re.MULTILINE))
    codes = {code: int(count) for code, count in re.findall(r"\[(\d{3})\]\s+(\d+) responses", said)}
    if rate is None or not {"50", "99"} <= percentiles.keys():
        raise ValueError(f"hey said nothing that is known: {said[-500:]}")
    return Load(
        requests=sum(codes.values()),
        errors=sum(count for code, count in codes.items() if not code.startswith("2")),
        per_s=float(rate[1]),
        p50_ms=float(percentiles["50"]) * 1e3,
        p99_ms=float(percentiles["99"]) * 1e3,
    )
