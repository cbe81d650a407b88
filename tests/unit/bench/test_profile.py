"""A trace of lone runs, put together."""

from __future__ import annotations

from bench.profile import rows_of, spans_of

TRACE = """7\tMainThread\t100.001000\t100.003000\tPostgres: insert_runs
7\tdispatcher\t100.003500\t100.004000\tgate: admit
9\tThreadPoolExecutor-0_2\t100.005000\t100.009000\ta message is taken
9\tThreadPoolExecutor-0_2\t100.005100\t100.006100\tPostgres: claim_steps
9\trecorder\t100.007000\t100.009000\tPostgres: record_outcomes
9\theartbeat\t101.500000\t101.600000\tPostgres: beat
"""


def test_only_what_falls_into_the_run_is_of_it() -> None:
    spans = spans_of(TRACE, 100.0, 100.01)
    assert [span.what for span in spans][-1] == "Postgres: record_outcomes"
    assert round(spans[0].begin) == 1_000
    assert round(spans[0].end) == 3_000
    assert spans[2].thread == "9 ThreadPoolExecutor"


def test_the_time_in_which_nothing_happens_is_told() -> None:
    rows = rows_of([spans_of(TRACE, 100.0, 100.01)] * 3)
    assert rows[1] == ["1,000", "1,000", "2,000", "Postgres: insert_runs", "MainThread"]
    taken, claim = rows[3], rows[4]
    assert taken == ["5,000", "1,000", "", "a message is taken", "ThreadPoolExecutor"]
    assert claim[1] == "1,100"  # a message that is taken is a beginning: nothing has been done by it yet


def test_what_happened_in_few_runs_only_is_left_out() -> None:
    once = spans_of(TRACE.replace("gate: admit", "gate: wake"), 100.0, 100.01)
    rows = rows_of([spans_of(TRACE, 100.0, 100.01)] * 3 + [once])
    assert "gate: wake" not in {row[3] for row in rows}
    assert "gate: admit" in {row[3] for row in rows}
