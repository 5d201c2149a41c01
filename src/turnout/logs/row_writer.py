"""Writes rows to disk as they are read, so that memory stays small however long the log is.

Long texts go into a file of their own: the engine sorts thousands of rows at a time, and would hold
all of their texts.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from turnout.logs.columns import BY_TIME, CALL_ID, clean_text
from turnout.logs.moments import moment
from turnout.logs.transcripts import TRANSCRIPTS, Transcript
from turnout.schema import FAILED, TIMESTAMP, TURNS

POSITION = "position"
N_CHARS = "n_chars"
# Text column → the column of its offset in the file of long texts. A row with an offset holds the
# text's digest in place of the text.
TEXT_OFFSETS = {
    "user_message": "user_message_offset",
    "assistant_message": "assistant_message_offset",
}
_LONG_CHARS = 1 << 13
_LENGTH_BYTES = 8
TURN_ROWS = pa.schema(
    [
        *TURNS,
        pa.field(CALL_ID, pa.string()),  # null where the log has no calls
        pa.field(N_CHARS, pa.int64(), nullable=False),  # of the user's message; 0 of a request
        *(pa.field(name, pa.int64()) for name in TEXT_OFFSETS.values()),
        pa.field(POSITION, pa.int64(), nullable=False),  # order of reading: the last tie-breaker
    ]
)
# Model calls that failed and of which no turn is known.
FAILED_CALLS = pa.schema(
    [
        pa.field("conversation_id", pa.string(), nullable=False),
        pa.field("failed_model", pa.string()),
        pa.field("failed_at", TIMESTAMP),
        pa.field(POSITION, pa.int64(), nullable=False),
    ]
)
_SHORTENED = (pa.string(), pa.int64())
# So many later turns are not by chance all odd or all even.
_SURE_TURNS = 3
_CHUNK_ROWS = 20_000
_CHUNK_CHARS = 1 << 25


@dataclass(slots=True)
class RowCounts:
    """Counts of rows that were dropped or changed.

    Attributes:
        dropped: Reason → rows.
        mended: What was corrected or left empty in a row that was kept → rows.
        redacted: Kind of secret or identity → how often it was replaced.
        passed_over: File of a folder or pattern that is no log → why.
        layouts: File → layout → rows of it.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)
    redacted: Counter[str] = field(default_factory=Counter)
    passed_over: dict[str, str] = field(default_factory=dict)
    layouts: dict[str, Counter[str]] = field(default_factory=dict)


class RowWriter:
    """Writes a Parquet file, some thousands of rows or megabytes at a time.

    Args:
        path: The file to write.
        schema: The columns, with `POSITION` as the last one, which the writer fills in.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.n_rows = 0
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", compression_level=1)
        self._rows: list[dict[str, Any]] = []
        self._chars = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.flush()
        self._writer.close()

    def write(self, row: dict[str, Any], n_chars: int) -> None:
        """Write one row, which holds about that many characters; the row is the writer's then."""
        row[POSITION] = self.n_rows
        self._rows.append(row)
        self.n_rows += 1
        self._chars += n_chars
        if len(self._rows) >= _CHUNK_ROWS or self._chars >= _CHUNK_CHARS:
            self.flush()

    def write_columns(self, columns: Sequence[pa.ChunkedArray], n_rows: int) -> None:
        """Write many rows at once: all columns of the schema but `POSITION`."""
        self.flush()
        positions = pa.array(range(self.n_rows, self.n_rows + n_rows), pa.int64())
        self._writer.write_table(pa.table([*columns, positions], self._schema))
        self.n_rows += n_rows

    def flush(self) -> None:
        """Write the rows that are still held in memory."""
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
            self._rows.clear()
            self._chars = 0


class TextFile:
    """A file of texts, each read again by its offset.

    Args:
        path: A new file, or one that was written before.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, text: str) -> int:
        """Write a text; its offset in bytes."""
        offset = self._file.tell()
        encoded = text.encode()
        self._file.write(len(encoded).to_bytes(_LENGTH_BYTES) + encoded)
        return offset

    def read(self, offset: int) -> str:
        """The text at an offset."""
        self._file.seek(offset)
        n_bytes = int.from_bytes(self._file.read(_LENGTH_BYTES))
        return self._file.read(n_bytes).decode()


class TurnRowWriter(RowWriter):
    """Writes rows in the columns of the turns table, before turns are deduplicated.

    Args:
        path: The file to write; its long texts go beside it.

    Attributes:
        texts_path: The file of long texts.
        transcripts: The file of what requests say of their conversation, a `RowWriter`; None where
            no row is a request.
        failed_calls: The file of `FAILED_CALLS`, a `RowWriter`; None where there are none.
        has_calls: Whether a row tells of a single model call.
        has_decisions: Whether a row says who chose its model.
        by_time: Whether a row has no turn index, and its time is to give one.
        first_zero: Where the first row with the turn index 0 is; None where there is none.
        n_of_parity: Remainder of the turn index by 2 → rows.
        n_later: Rows with a turn index above 1.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, TURN_ROWS)
        self.texts_path = path.with_suffix(".texts")
        self.has_calls = self.has_decisions = self.by_time = False
        self.first_zero: str | None = None
        self.n_of_parity = Counter[int]()
        self.n_later = 0
        self.transcripts: RowWriter | None = None
        self.failed_calls: RowWriter | None = None
        self._texts = TextFile(self.texts_path)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with (
            self._texts,
            self.transcripts or contextlib.nullcontext(),
            self.failed_calls or contextlib.nullcontext(),
        ):
            super().__exit__(kind, error, trace)

    @property
    def counts_messages(self) -> bool:
        """Whether turn indices count messages, those of answers too: 1, 3, 5, … or 0, 2, 4, …."""
        other = 0 if self.first_zero is None else 1
        return self.n_later >= _SURE_TURNS and not self.n_of_parity[other]

    def write_turn(self, row: dict[str, Any], where: str) -> None:
        """Write one row with the columns of `TURNS` and `CALL_ID`, which was read there."""
        if row["turn_index"] == 0 and self.first_zero is None:
            self.first_zero = where
        self.n_of_parity[row["turn_index"] % 2] += 1
        self.n_later += row["turn_index"] > 1
        self.has_calls |= row[CALL_ID] is not None
        self.has_decisions |= row["chosen_by"] is not None
        self.by_time |= row["turn_index"] == BY_TIME
        # Requests say their messages whole: of several the later one counts, not the longest.
        row[N_CHARS] = len(row["user_message"]) if row[CALL_ID] is None else 0
        for name, offset_name in TEXT_OFFSETS.items():
            row[name], row[offset_name] = self._shortened(row[name])
        self.write(row, sum(len(row[name] or "") for name in TEXT_OFFSETS))

    def write_transcript(self, transcript: Transcript, row: dict[str, Any]) -> None:
        """Write what the request of the next row says of its conversation."""
        if self.transcripts is None:
            self.transcripts = RowWriter(self.path.with_name("transcripts.parquet"), TRANSCRIPTS)
        columns = transcript.row(row["conversation_id"])
        failed = (row["response_type"] or "").lower() in FAILED
        columns |= {"row": self.n_rows, "time": row["timestamp"], "failed": failed}
        self.transcripts.write(columns, 0)

    def write_failed_call(self, call: Mapping[str, Any], source: str | None) -> None:
        """Write a model call that failed, so that the call after it counts as its fallback.

        Args:
            call: `conversation_id`, `model` and `timestamp`, as the log has them.
            source: What begins the conversation's id; None for nothing.
        """
        if self.failed_calls is None:
            self.failed_calls = RowWriter(self.path.with_name("failed.parquet"), FAILED_CALLS)
        name = clean_text(call["conversation_id"])
        row: dict[str, Any] = {"conversation_id": f"{source}:{name}" if source else name}
        row |= {"failed_model": clean_text(call["model"]), "failed_at": moment(call["timestamp"])}
        self.failed_calls.write(row, 0)

    def write_turns(self, turns: pa.Table) -> None:
        """Write rows with the columns of `TURNS`."""
        n_rows = turns.num_rows
        self.by_time |= n_rows > 0 and pc.min(turns["turn_index"]).as_py() == BY_TIME
        n_odd = pc.sum(pc.bit_wise_and(turns["turn_index"], 1)).as_py() or 0
        self.n_of_parity += Counter({1: n_odd, 0: n_rows - n_odd})
        self.n_later += pc.sum(pc.greater(turns["turn_index"], 1)).as_py() or 0
        n_chars = pc.utf8_length(turns["user_message"]).cast(pa.int64())
        offsets = []
        for name in TEXT_OFFSETS:
            column = pa.nulls(n_rows, pa.int64())
            if (pc.max(pc.utf8_length(turns[name])).as_py() or 0) > _LONG_CHARS:
                short = zip(*map(self._shortened, turns[name].to_pylist()), strict=True)
                texts, column = (pa.array(v, t) for v, t in zip(short, _SHORTENED, strict=True))
                index = turns.schema.get_field_index(name)
                turns = turns.set_column(index, turns.field(name), texts)
            offsets.append(column)
        calls = pa.nulls(n_rows, pa.string())
        self.write_columns([*turns.columns, calls, n_chars, *offsets], n_rows)

    def _shortened(self, text: str | None) -> tuple[str | None, int | None]:
        """The text or, of a long one, its digest and its offset in the file of texts."""
        if text is None or len(text) <= _LONG_CHARS:
            return text, None
        return hashlib.sha256(text.encode()).hexdigest(), self._texts.append(text)
