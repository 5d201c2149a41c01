"""A table with a text column → its scores, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from turnout.errors import SettingsError
from turnout.manifest import Manifest
from turnout.parquet import write_parquet
from turnout.progress import OnProgress, silent
from turnout.records import Population, Turn
from turnout.routing import RouterFolder
from turnout.routing.folder import SCORING_LIBRARIES
from turnout.schema import SCORES_COLUMN
from turnout.stage import StageRun
from turnout.stats.bootstrap import Estimate
from turnout.stats.prior import estimated_prior
from turnout.tables import Table, table_batches


@dataclass(frozen=True, slots=True)
class ScoreReport:
    """The result of scoring a table.

    Attributes:
        rows: Rows of the file, and of the scores.
        without_text: Rows whose text is null; their score is null.
        population: The messages that the scores are probabilities for.
        reasoning_share: The estimated share of the rows that need reasoning, the same for either
            population; None where no row has text.
        fresh: False where an earlier run on the same inputs was there already.
    """

    rows: int
    without_text: int
    population: Population
    reasoning_share: Estimate | None
    fresh: bool


def score_file(
    router: Path,
    file: Path,
    out: Path,
    *,
    text_column: str,
    keep: Sequence[str] = (),
    precision: str | None = None,
    population: Population | None = None,
    on_progress: OnProgress = silent,
) -> ScoreReport:
    """Score every row as the first message of a conversation, in bounded memory.

    Writes Parquet with the columns to keep and `p_reasoning` (float32 in (0, 1)), one row per input
    row, in input order.

    Args:
        router: A router folder; at turn 1 both architectures read the message alone.
        file: Parquet, CSV or JSON Lines; read once to check it, and once to score it.
        out: Where the scores go; the file appears only once complete.
        text_column: The column of the text.
        keep: Columns to write beside the score, such as an id; they are held in memory.
        precision: `int8` or `float32`; by default what serves.
        population: Whose probabilities to give; by default the log's where the router knows its
            share of reasoning, else those of balanced rows.
        on_progress: Called every few rows.

    Raises:
        ArtifactError: If the router cannot be used.
        RecordError: If the file cannot be read completely, or the column holds anything but text.
        SettingsError: If the population's share of reasoning is not known, or a column to keep has
            the name of the scores.
        StorageError: If `out` cannot be written.
    """
    folder = RouterFolder.read(router)
    population = population or folder.spec.priors.default
    if SCORES_COLUMN in keep:
        raise SettingsError(
            f"--keep: found {SCORES_COLUMN}, the name of the scores' column; expected other "
            "columns. Leave it out."
        )
    options = {
        "text_column": text_column,
        "keep": list(keep),
        "precision": precision or folder.precision,
        "population": population,
    }
    read = {"router": router, "file": file}
    run = StageRun(out, Manifest.of("score", read, options, libraries=SCORING_LIBRARIES))
    if run.is_done():
        return run.stored(ScoreReport)
    extra: dict[str, list[Any]] = {name: [] for name in keep}
    rows = 0
    for batch in _batches(file, text_column, keep):
        rows += len(batch)
        for name, values in extra.items():
            values += batch.columns.get(name) or [None] * len(batch)
    scores = np.full(rows, np.nan, np.float32)  # (rows,); a text that is null has none
    scorer = folder.scorer(precision or folder.precision, population=population)
    formatter, done = folder.spec.formatter, 0
    for texts in _texts(file, text_column):
        formatted = [formatter.format([Turn(text)]) for text in texts if text is not None]
        with_text = np.flatnonzero([text is not None for text in texts])
        scores[done + with_text] = scorer.score(formatted, _further(on_progress, done, rows))
        done += len(texts)
    on_progress("score", rows, rows)
    missing = np.isnan(scores)
    prior = folder.spec.priors.of(population)
    share = None if missing.all() or prior is None else estimated_prior(scores[~missing], prior)
    report = ScoreReport(rows, int(missing.sum()), population, share, fresh=True)
    run.record(report)
    with run.output() as partial:
        columns = {name: _column(values) for name, values in extra.items()}
        columns[SCORES_COLUMN] = pa.array(scores, mask=missing)
        write_parquet(pa.table(columns), partial)
    return report


def _further(on_progress: OnProgress, done: int, total: int) -> OnProgress:
    """Report the progress of a batch as progress of all rows."""
    return lambda step, batch_done, _: on_progress(step, done + batch_done, total)


def _texts(file: Path, column: str) -> Iterator[list[str | None]]:
    for batch in _batches(file, column):
        yield [row.text(column) for row in batch]


def _batches(file: Path, column: str, keep: Sequence[str] = ()) -> Iterator[Table]:
    remedy = "Name the text's column with --text-column, and those to keep with --keep."
    return table_batches(file, [column, *keep], remedy=remedy)


def _column(values: list[Any]) -> pa.Array:
    """Values as they are, or as text if they have several types."""
    try:
        return pa.array(values)
    except pa.ArrowException:
        return pa.array([None if value is None else str(value) for value in values])
