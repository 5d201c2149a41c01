"""The ingest stage: logs in, the canonical turns table out, with an account of every row.

Knows no label. Rows in = rows kept + rows dropped by reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.compute as pc

from turnout.engine import connect, write_parquet
from turnout.errors import RecordError
from turnout.logs.columns import UnreadableRowError, canonical, column_map
from turnout.logs.layouts import turn_rows
from turnout.logs.readers import RawRow, files_of, read_rows
from turnout.logs.redact import redacted
from turnout.manifest import Manifest, read_manifest, staged_output, up_to_date
from turnout.progress import OnProgress, silent
from turnout.schema import TURNS

DEFAULT_SALT = "turnout"
_CHUNK_ROWS = 20_000
# JSON rows need not all have the same keys: the columns are those of the first rows together.
_COLUMNS_FROM_ROWS = 1_000

EMPTY = "empty user message"
RESENT = "sent again (the longest is kept)"
UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of every row.

    Attributes:
        rows_read: Rows of all files; a row that holds a conversation counts as its turns.
        rows_kept: Rows of the turns table: one a turn.
        dropped: Reason → rows. With `rows_kept` they add up to `rows_read`.
        conversations: Distinct conversations kept.
        complete_conversations: Those whose least turn index is 1 and that have no gap.
        without_timestamp: Kept rows whose time is missing or unreadable.
        without_model: Kept rows that name no model at all.
        ignored_columns: Columns of the log that nothing reads.
        redacted: Kind of find → how often it was replaced; empty where that was not asked for.
        fresh: False where an earlier run on the same log was found.
    """

    rows_read: int
    rows_kept: int
    dropped: dict[str, int]
    conversations: int
    complete_conversations: int
    without_timestamp: int
    without_model: int
    ignored_columns: list[str]
    redacted: dict[str, int]
    fresh: bool


def ingest(
    sources: Sequence[Path],
    out: Path,
    *,
    columns: Mapping[str, str] | None = None,
    salt: str = DEFAULT_SALT,
    skip_unreadable: bool = False,
    redact: bool = False,
    on_progress: OnProgress = silent,
) -> IngestReport:
    """Read logs into one turns table.

    A turn that was sent several times is kept once, at its longest. Rows are ordered by
    conversation and turn.

    Args:
        sources: Files, folders or patterns: JSONL, JSON, CSV (all also gzip) or Parquet; a row is
            a turn, or a whole conversation in one of the layouts of `logs.layouts`.
        out: The Parquet file to write.
        columns: Canonical → the log's own column name, where it is not found by itself.
        salt: Mixed into the hash of `user_id`.
        skip_unreadable: Count unreadable rows as dropped rather than stop at the first.
        redact: Replace e-mail and IP addresses, keys, and user names in paths in what was said.
        on_progress: Told every few thousand rows.

    Raises:
        RecordError: If a source, a required column or a row cannot be read, or nothing is left.
        SettingsError: If `columns` names a field or column that does not exist.
        StorageError: If `out` cannot be written.
    """
    files = files_of(sources)
    options = {
        "columns": dict(columns or {}),
        "salt": salt,
        "skip_unreadable": skip_unreadable,
        "redact": redact,
    }
    manifest = Manifest.of("ingest", files, options)
    if up_to_date(out, manifest):
        return IngestReport(**(read_manifest(out) or {})["counts"], fresh=False)
    dropped: Counter[str] = Counter()
    ignored: set[str] = set()
    finds: Counter[str] = Counter()
    chunks: list[pa.Table] = []
    for file in files:
        chunks += _chunks(file, options, dropped, ignored, finds, on_progress)
    rows = pa.concat_tables([TURNS.empty_table(), *chunks])
    turns = _one_row_a_turn(rows)
    if turns.num_rows == 0:
        raise RecordError(
            f"{', '.join(map(str, files))}: no turn left of {sum(dropped.values())} rows "
            f"({_account(dropped)}); expected at least one row with a user message."
        )
    if rows.num_rows > turns.num_rows:
        dropped[RESENT] = rows.num_rows - turns.num_rows
    report = _report(turns, dropped, ignored, finds)
    manifest.counts.update({k: v for k, v in asdict(report).items() if k != "fresh"})
    with staged_output(out, manifest) as partial:
        write_parquet(turns, partial)
    return report


def _chunks(
    file: Path,
    options: Mapping[str, Any],
    dropped: Counter[str],
    ignored: set[str],
    finds: Counter[str],
    on_progress: OnProgress,
) -> Iterator[pa.Table]:
    raw_rows = chain.from_iterable(map(turn_rows, read_rows(file)))
    first = list(islice(raw_rows, _COLUMNS_FROM_ROWS))
    found = {column for raw in first for column in raw.values}
    if not found:
        dropped[UNREADABLE] += _unreadable(first, options)
        return
    columns, unused = column_map(found, options["columns"], str(file))
    ignored.update(unused)
    rows: list[dict[str, Any]] = []
    read = 0
    for raw in chain(first, raw_rows):
        read += 1
        row = _turn(raw, columns, options)
        if row is None:
            dropped[UNREADABLE] += 1
            continue
        if not row["user_message"].strip():
            dropped[EMPTY] += 1
            continue
        if options["redact"]:
            _redact(row, finds)
        row["source"] = row["source"] or file.name
        rows.append(row)
        if len(rows) == _CHUNK_ROWS:
            yield pa.Table.from_pylist(rows, TURNS)
            rows.clear()
            on_progress(f"ingest {file.name}", read, None)
    on_progress(f"ingest {file.name}", read, read)
    yield pa.Table.from_pylist(rows, TURNS)


def _turn(
    raw: RawRow, columns: Mapping[str, str], options: Mapping[str, Any]
) -> dict[str, Any] | None:
    problem = raw.problem
    if problem is None:
        try:
            return canonical(raw.values, columns, options["salt"])
        except UnreadableRowError as error:
            problem = str(error)
    if options["skip_unreadable"]:
        return None
    raise RecordError(
        f"{raw.where}: {problem}. Mend the row, or pass --skip-unreadable to leave such rows out "
        "and count them."
    )


def _redact(row: dict[str, Any], finds: Counter[str]) -> None:
    for name in ("user_message", "assistant_message"):
        if row[name] is not None:
            row[name] = redacted(row[name], finds)


def _unreadable(rows: Sequence[RawRow], options: Mapping[str, Any]) -> int:
    """How many rows a file without a single readable one has."""
    return sum(_turn(raw, {}, options) is None for raw in rows)


def _one_row_a_turn(rows: pa.Table) -> pa.Table:
    """The longest message of each turn; ties go to the text that sorts first, then to the model."""
    table = ibis.memtable(rows)
    best = (
        table.group_by("conversation_id", "turn_index")
        .order_by(table.user_message.length().desc(), "user_message", "model", "timestamp")
        .mutate(rank=ibis.row_number())
        .filter(lambda t: t.rank == 0)
        .drop("rank")
        .order_by("conversation_id", "turn_index")
    )
    return connect().to_pyarrow(best).cast(TURNS)


def _report(
    turns: pa.Table, dropped: Counter[str], ignored: set[str], finds: Counter[str]
) -> IngestReport:
    spans = turns.group_by("conversation_id").aggregate(
        [("turn_index", "min"), ("turn_index", "max"), ("turn_index", "count")]
    )
    complete = pc.and_(
        pc.equal(spans["turn_index_min"], 1),
        pc.equal(spans["turn_index_max"], spans["turn_index_count"]),
    )
    return IngestReport(
        rows_read=turns.num_rows + sum(dropped.values()),
        rows_kept=turns.num_rows,
        dropped=dict(sorted(dropped.items())),
        conversations=spans.num_rows,
        complete_conversations=pc.sum(complete).as_py(),
        without_timestamp=turns["timestamp"].null_count,
        without_model=turns["model"].null_count,
        ignored_columns=sorted(ignored),
        redacted=dict(sorted(finds.items())),
        fresh=True,
    )


def _account(dropped: Counter[str]) -> str:
    reasons = [f"{n} {reason}" for reason, n in sorted(dropped.items()) if n]
    return ", ".join(reasons) or "the log is empty"
