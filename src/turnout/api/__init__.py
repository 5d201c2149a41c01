"""Data sets, routers and evaluation in memory, for notebooks."""

from __future__ import annotations

from turnout.api.data import Data, Split, from_outcomes, from_turns

__all__ = ["Data", "Split", "from_outcomes", "from_turns"]
