"""Another database beside the default one, as far as a thread sees its connections."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

from django.db import connections


@contextmanager
def ledger(*, in_transaction: bool) -> Iterator[None]:
    """This thread has a connection `ledger`. Other threads have theirs: one that closes all of its connections must not
    meet those of this one."""
    here, every = threading.get_ident(), type(connections).all
    other = SimpleNamespace(alias="ledger", in_atomic_block=in_transaction)

    def all_of(self: Any, *given: Any, **more: Any) -> Any:
        return [connections["default"], other] if threading.get_ident() == here else every(self, *given, **more)

    with mock.patch.object(type(connections), "all", all_of):
        yield
