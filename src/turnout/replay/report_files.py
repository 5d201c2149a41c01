"""Writes the files of a report: the page, all its numbers, and a table for other programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from turnout.stats.bootstrap import Estimate


def write_report(
    numbers: Path,
    content: Mapping[str, Any],
    page: str,
    table: Path,
    rows: Iterable[Sequence[object]],
) -> None:
    """Make the folder of a report.

    Args:
        numbers: The JSON file; the page is the HTML file of the same name.
        content: What it says.
        page: As HTML.
        table: The CSV file, in the same folder.
        rows: Of the table, its header first.
    """
    numbers.parent.mkdir()
    numbers.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    numbers.with_suffix(".html").write_text(page, encoding="utf-8")
    write_table(table, rows)


def write_table(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, its header first."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


def spread(estimate: Estimate | None) -> list[object]:
    """Value, lower and upper end as cells; empty where nothing could be measured."""
    return ["", "", ""] if estimate is None else [estimate.value, estimate.low, estimate.high]
