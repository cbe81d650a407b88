"""What a process has for itself: one of each part, another for a while, and nothing after a fork."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from config.env import BASE_DIR
from workflows.this_process import Parts

FORKED = """
import os
from workflows import this_process

class Part:
    pass

mine = this_process.own(Part)
assert this_process.own(Part) is mine
child = os.fork()
if child == 0:
    os._exit(0 if this_process.own(Part) is not mine else 1)
assert os.waitpid(child, 0)[1] == 0, "the child has its parent's part"
assert this_process.own(Part) is mine
"""


class Part:
    """Something that a process has once."""


class OtherPart(Part):
    pass


def test_all_threads_get_the_same_part() -> None:
    parts = Parts()
    with ThreadPoolExecutor(8) as threads:
        found = {id(part) for part in threads.map(lambda _: parts.own(Part), range(200))}
    assert found == {id(parts.own(Part))}


def test_a_part_is_replaced_for_a_while() -> None:
    parts = Parts()
    before, other = parts.own(Part), OtherPart()
    with parts.replaced(Part, other):
        assert parts.own(Part) is other
    assert parts.own(Part) is before


def test_a_forgotten_part_is_made_anew() -> None:
    parts = Parts()
    before = parts.own(Part)
    parts.forget(Part)
    assert parts.own(Part) is not before


def test_a_fork_begins_with_parts_of_its_own() -> None:
    subprocess.run([sys.executable, "-c", FORKED], cwd=BASE_DIR, check=True)
