"""What a notebook works with: data sets from tables in memory."""

from __future__ import annotations

from turnout.api.data import Data, Split, from_outcomes, from_turns

__all__ = ["Data", "Split", "from_outcomes", "from_turns"]
