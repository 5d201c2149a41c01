"""The tables of a data set's page, for other programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_CELLS = ("split", "stratum", "reasoning", "fast", "none")


def csv_tables(description: Mapping[str, Any]) -> dict[str, list[list[object]]]:
    """File name → its rows, the header first.

    Args:
        description: What `dataset.json` says.
    """
    composition = [[cell[name] for name in _CELLS] for cell in description["composition"]]
    return {
        "usage.csv": [["turns", "reason", "count"], *_usage(description["usage"])],
        "composition.csv": [list(_CELLS), *composition],
    }


def _usage(usage: Mapping[str, Any]) -> Iterator[list[object]]:
    yield ["used", "", usage["used"]]
    for part in ("not_used", "not_taken"):
        for reason, turns in usage[part].items():
            yield [part.replace("_", " "), reason, turns]
