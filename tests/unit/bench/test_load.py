"""What the load generators say, as they say it."""

from __future__ import annotations

import json

import pytest

from bench.load import Call, parse_hey, parse_oha, parse_wrk, wrk_script

WRK = """Running 4s test @ http://127.0.0.1:28000/healthz
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     9.61ms    2.02ms  41.59ms   87.70%
    Req/Sec     3.36k   310.07     3.80k    80.00%
  13402 requests in 4.00s, 3.07MB read
  Non-2xx or 3xx responses: 2
Requests/sec:   3347.13
Transfer/sec:    784.48KB
BENCH 4004066 13402 2 9214.000000 17341.000000
"""
HEY = """
Summary:
  Total:\t4.0098 secs
  Requests/sec:\t3123.4567

Latency distribution:
  10% in 0.0066 secs
  50% in 0.0098 secs
  99% in 0.0203 secs

Status code distribution:
  [200]\t12000 responses
  [503]\t24 responses
"""
HEY_1_4 = HEY.replace("% in", "%% in")
OHA = {
    "summary": {"successRate": 1.0, "requestsPerSec": 2500.5, "total": 4.0},
    "latencyPercentiles": {"p50": 0.0121, "p90": 0.02, "p99": 0.0312},
    "statusCodeDistribution": {"202": 10_000, "429": 3},
    "errorDistribution": {"aborted due to deadline": 32, "connection refused": 4},
}


def test_wrk_counts_in_microseconds() -> None:
    found = parse_wrk(WRK)
    assert (found.requests, found.errors) == (13_402, 2)
    assert found.per_s == pytest.approx(3347.1, abs=0.1)
    assert (found.p50_ms, found.p99_ms) == (9.214, 17.341)


@pytest.mark.parametrize("said", [HEY, HEY_1_4])
def test_hey_counts_in_seconds_and_errors_are_what_was_not_answered_well(said: str) -> None:
    found = parse_hey(said)
    assert (found.requests, found.errors) == (12_024, 24)
    assert (found.per_s, found.p50_ms, found.p99_ms) == pytest.approx((3123.4567, 9.8, 20.3))


def test_oha_s_requests_under_way_at_the_end_are_no_errors() -> None:
    found = parse_oha(json.dumps(OHA))
    assert (found.requests, found.errors) == (10_003, 3 + 4)
    assert (found.per_s, found.p50_ms, found.p99_ms) == pytest.approx((2500.5, 12.1, 31.2))


@pytest.mark.parametrize("parse", [parse_wrk, parse_hey])
def test_what_is_not_understood_is_no_figure(parse) -> None:
    with pytest.raises(ValueError, match="nothing that is known"):
        parse("unable to connect to 127.0.0.1:1 Connection refused")


def test_a_body_survives_lua() -> None:
    script = wrk_script(Call(url="http://x/", method="POST", body='{"a": "b\\"c\n"}', headers={"X-Y": "z"}))
    assert 'wrk.body = "{\\"a\\": \\"b\\\\\\"c\\n\\"}"' in script
    assert 'wrk.headers["X-Y"] = "z"' in script
    assert "wrk.body = nil" in wrk_script(Call(url="http://x/", headers={}))
