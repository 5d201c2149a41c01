"""A table with a text column → its scores, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from turnout.manifest import Manifest
from turnout.parquet import write_parquet
from turnout.progress import OnProgress, silent
from turnout.records import Turn
from turnout.routing import RouterFolder
from turnout.schema import SCORES_COLUMN
from turnout.stage import StageRun
from turnout.tables import read_whole_table


@dataclass(frozen=True, slots=True)
class ScoreReport:
    """What was scored.

    Attributes:
        rows: Rows of the file, and of the scores.
        without_text: Rows whose text is null; their score is null.
        fresh: False where an earlier run on the same inputs was there already.
    """

    rows: int
    without_text: int
    fresh: bool


def score_file(
    router: Path,
    file: Path,
    out: Path,
    *,
    text_column: str,
    precision: str = "int8",
    on_progress: OnProgress = silent,
) -> ScoreReport:
    """Score every row as the first message of a conversation.

    Writes Parquet with the column `p_reasoning` (float32 in [0, 1]), one row per input row, in
    input order.

    Args:
        router: A router folder of either architecture: at turn 1 both read the message alone.
        file: Parquet, CSV or JSON Lines.
        out: Where the scores go; the file appears only when whole.
        text_column: Which column holds the text.
        precision: `int8`, which serves, or `float32`.
        on_progress: Called every few rows.

    Raises:
        ArtifactError: If the router cannot be used.
        RecordError: If the file cannot be read whole, or the column holds other than text.
        StorageError: If `out` cannot be written.
    """
    options = {"text_column": text_column, "precision": precision}
    run = StageRun(out, Manifest.of("score", {"router": router, "file": file}, options))
    if run.is_done():
        table = pq.read_table(out, partitioning=None)
        return ScoreReport(len(table), table[SCORES_COLUMN].null_count, fresh=False)
    remedy = "Name the text's column with --text-column."
    texts = [row.text(text_column) for row in read_whole_table(file, [text_column], remedy=remedy)]
    folder = RouterFolder.read(router)
    inputs = [folder.spec.formatter.format([Turn(text or "")]) for text in texts]
    scores = folder.scorer(precision).score(inputs, on_progress)
    known = [None if t is None else float(s) for t, s in zip(texts, scores, strict=True)]
    table = pa.table({SCORES_COLUMN: pa.array(known, pa.float32())})
    with run.output() as partial:
        write_parquet(table, partial)
    return ScoreReport(len(texts), texts.count(None), fresh=True)
