"""What the first part of a start hands to the second one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class Settled:
    """`basic_auth`: the login for Flower, as user:password. `announcement`: what `up` prints when everything runs."""

    basic_auth: str
    announcement: str

    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> Settled:
        return cls(**json.loads(text.splitlines()[-1]))
