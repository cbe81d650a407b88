"""A traceback as it is stored becomes the frames that Sentry shows, whatever code has written into it."""

from __future__ import annotations

from workflows.engine.telemetry.sentry import _stack


def test_frames_are_read_from_a_traceback() -> None:
    text = (
        'Traceback (most recent call last):\n  File "a.py", line 3, in f\n    x()\n  File "b.py", line 4, in g\nE: no'
    )
    frames = _stack(text)["stacktrace"]["frames"]
    assert frames == [
        {"filename": "a.py", "lineno": 3, "function": "f"},
        {"filename": "b.py", "lineno": 4, "function": "g"},
    ]


def test_a_line_number_of_thousands_of_digits_is_no_frame() -> None:
    text = f'  File "a.py", line {"9" * 5_000}, in f\n  File "b.py", line 4, in g\n'
    assert [frame["filename"] for frame in _stack(text)["stacktrace"]["frames"]] == ["b.py"]
    assert _stack("no traceback") == {}
