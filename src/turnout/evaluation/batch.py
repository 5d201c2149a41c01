"""A table with a text column → its scores, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from turnout.engine import DUCKDB, mapped_on_spark
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

_SCORED = pa.schema([("row", pa.int64()), (SCORES_COLUMN, pa.float32())])
# Texts that Spark gets at a time: they pass through this process's memory.
_ROWS_SENT = 200_000


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
    population: Population | None = None,
    engine: str = DUCKDB,
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
        population: Whose probabilities to give; by default the log's where the router knows its
            share of reasoning, else those of balanced rows.
        engine: Where texts are scored: `duckdb` for this process, or a Spark address; see
            `engine.connect`. It changes no byte.
        on_progress: Called every few rows.

    Raises:
        ArtifactError: If the router cannot be used.
        RecordError: If the file cannot be read completely, or the column holds anything but text.
        SettingsError: If the population's share of reasoning is not known, or a column to keep has
            the name of the scores, or the engine is not there.
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
        "population": population,
    }
    read = {"router": router, "file": file}
    run = StageRun(out, Manifest.of("score", read, options, libraries=SCORING_LIBRARIES))
    earlier = run.earlier(ScoreReport)
    if earlier is not None:
        return earlier
    extra: dict[str, list[Any]] = {name: [] for name in keep}
    rows = 0
    for batch in _batches(file, text_column, keep):
        rows += len(batch)
        for name, values in extra.items():
            values += batch.columns.get(name) or [None] * len(batch)
    scores = np.full(rows, np.nan, np.float32)  # (rows,); a text that is null has none
    scoring = _Scoring(folder.path.absolute(), population)
    if engine == DUCKDB:
        score, done = scoring.scorer(), 0
        for texts in _texts(file, text_column):
            with_text = np.flatnonzero([text is not None for text in texts])
            own = [text for text in texts if text is not None]
            scores[done + with_text] = score(own, _further(on_progress, done, rows))
            done += len(texts)
    else:
        texts_by_row = _texts_by_row(file, text_column)
        for part in mapped_on_spark(engine, file, texts_by_row, scoring, _SCORED):
            scores[part["row"].to_numpy()] = part[SCORES_COLUMN].to_numpy()
            on_progress("score", int(np.isfinite(scores).sum()), rows)
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


@dataclass(frozen=True, slots=True)
class _Scoring:
    """Scores texts as first messages, in this process or in Spark's.

    Attributes:
        router: The router folder.
        population: Whose probabilities to give.
    """

    router: Path
    population: Population

    def scorer(self) -> Callable[[Sequence[str], OnProgress], NDArray[np.float32]]:
        """Texts and a progress callback → scores."""
        folder = RouterFolder.read(self.router)
        scorer = folder.scorer(population=self.population)
        formatter = folder.spec.formatter

        def score(texts: Sequence[str], on_progress: OnProgress) -> NDArray[np.float32]:
            return scorer.score([formatter.format([Turn(text)]) for text in texts], on_progress)

        return score

    def __call__(self, texts: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        score = self.scorer()
        for batch in texts:
            scores = pa.array(score(batch["text"].to_pylist(), silent), pa.float32())
            yield pa.RecordBatch.from_arrays([batch["row"], scores], schema=_SCORED)


def _texts_by_row(file: Path, column: str) -> Iterator[pa.Table]:
    """Rows with text, some hundred thousand at a time, as executors get them."""
    rows: list[int] = []
    texts: list[str] = []
    row = 0
    for batch in _texts(file, column):
        for text in batch:
            if text is not None:
                rows.append(row)
                texts.append(text)
            row += 1
        if len(rows) >= _ROWS_SENT:
            yield pa.table({"row": rows, "text": texts})
            rows, texts = [], []
    if rows:
        yield pa.table({"row": rows, "text": texts})


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
