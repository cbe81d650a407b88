"""The base of every model of the definition format."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

KEY = r"^[A-Za-z_][A-Za-z0-9_-]{0,99}$"
"""What the id of a step or of a trigger looks like."""


class Strict(BaseModel):
    """A model that refuses fields it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
