"""The ingest stage: reads logs into one turns table, and counts every row as kept or dropped.

Memory does not grow with the log: rows are written to disk beside the output and sorted there.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pyarrow as pa
import pyarrow.compute as pc

from turnout.engine import connect, interruptible, lacks_disk, read_parquet
from turnout.errors import RecordError, SettingsError, StorageError
from turnout.logs.calls import CallParts, joined_calls
from turnout.logs.column_names import ColumnNames
from turnout.logs.columnar import canonical_columns
from turnout.logs.columns import NotALogError, UnreadableRowError, canonical
from turnout.logs.deduplicated_turns import count_turns_of_several_models, write_turns
from turnout.logs.formats import (
    FORMAT_NAMES,
    RawRow,
    is_log,
    is_parquet,
    parquet_batches,
    read_rows,
)
from turnout.logs.guesses import guessed_columns, refusal
from turnout.logs.message_table import MessageTable, turns_of_table
from turnout.logs.numbering import OTHER_BRANCH, numbered_rows
from turnout.logs.places import LogFile, files_of
from turnout.logs.pseudonyms import Salt, salt_beside
from turnout.logs.readers import KNOWN_SOURCES, TURN_A_ROW, read_by_turns, rows_of_turns
from turnout.logs.readers.message_rows import MESSAGE_A_ROW, MessageColumns, message_columns
from turnout.logs.readers.messages import HARNESS_ALONE, HARNESS_LEFT_OUT, HELPER_CALL
from turnout.logs.readers.parts import CallPart
from turnout.logs.readers.sessions import WITHOUT_TEXT, KnownSessions
from turnout.logs.row_writer import RowCounts, TurnRowWriter
from turnout.logs.transcripts import TRANSCRIPT, Transcript
from turnout.manifest import Input, Manifest
from turnout.progress import OnProgress, silent
from turnout.protocols import split_harness
from turnout.protocols.kinds import helper_by_wording
from turnout.redaction import redacted
from turnout.schema import FAILED
from turnout.stage import StageRun

EMPTY = "empty user message"
UNREADABLE = "unreadable"
NO_TIME = "no time"
NO_MODEL = "no model"
NO_TOKENS = "no token counts"
NOT_ANSWERED = "cancelled or failed"
BACKWARDS = "earlier than the turn before"
SEVERAL_MODELS = "several models (that of the row that stays is kept)"
_NOTED = (NO_TIME, NO_MODEL, NO_TOKENS, NOT_ANSWERED, BACKWARDS)
# JSON rows need not all have the same keys, so columns are looked for in the first rows together.
_FIRST_ROWS = 1_000
_FIRST_CHARS = 1 << 25  # they are in memory at the same time
_PROGRESS_ROWS = 20_000
_MEMORY_MB = 2_000
_JOINED = "rows joined to turns"
_MESSAGES = ("user_message", "assistant_message")


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of every row.

    Attributes:
        rows_read: Rows of all files; a row that holds a conversation counts as its turns.
        rows_kept: Rows of the turns table: one a turn.
        dropped: Reason → rows. With `rows_kept` they add up to `rows_read`.
        mended: What was corrected or left empty in kept rows → rows.
        conversations: Distinct conversations kept.
        complete_conversations: Those whose least turn index is 1 and that have no gap.
        noted: What kept turns lack or are (no time, no model, failed, …) → turns.
        ignored_columns: Columns of the log that nothing reads.
        redacted: Kind of secret or identity → how often it was replaced; empty without `redact`.
        passed_over: File of a folder or pattern that is no log → why.
        layouts: File → layout of its rows → rows.
        fresh: False where an earlier run on the same log was found.
    """

    rows_read: int
    rows_kept: int
    dropped: dict[str, int]
    mended: dict[str, int]
    conversations: int
    complete_conversations: int
    noted: dict[str, int]
    ignored_columns: list[str]
    redacted: dict[str, int]
    passed_over: dict[str, str]
    layouts: dict[str, dict[str, int]]
    fresh: bool


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How rows are read.

    Attributes:
        columns: Canonical → the log's own column name, where the two differ.
        salt: Makes the pseudonyms in `user_id`.
        skip_unreadable: Count unreadable rows as dropped rather than stop at the first.
        redact: Replace e-mail and IP addresses, keys, and user names in paths in what was said.
        source: The turns' `source`, which then begins every conversation's id; None for the
            file's name, with ids as they are.
        keep: Columns of the log that become the turns' segments.
    """

    columns: Mapping[str, str]
    salt: Salt
    skip_unreadable: bool
    redact: bool
    source: str | None = None
    keep: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """The options as a manifest holds them; the salt is secret and goes by its fingerprint."""
        return {
            "columns": dict(self.columns),
            "salt": self.salt.fingerprint,
            "skip_unreadable": self.skip_unreadable,
            "redact": self.redact,
            "source": self.source,
            "keep": list(self.keep),
        }


def ingest(
    sources: Sequence[str | Path],
    out: Path,
    *,
    columns: Mapping[str, str] | None = None,
    salt: Path | None = None,
    skip_unreadable: bool = False,
    strict: bool = False,
    redact: bool = False,
    source: str | None = None,
    keep: Sequence[str] = (),
    on_progress: OnProgress = silent,
) -> IngestReport:
    """Read logs into one turns table.

    A turn that was sent several times is kept once, at its longest. Rows are ordered by
    conversation and turn.

    Args:
        sources: Files, folders, patterns or URIs of object stores: JSONL, JSON, CSV, Markdown (all
            also gzip and zstd), Parquet or .zip archives; a row is a turn, or what one of
            `logs.readers` knows.
        out: The Parquet file to write.
        columns: Canonical → the log's own column name, where it is not found by itself.
        salt: The file of the secret salt that makes the pseudonyms in `user_id`; by default
            `NAME.salt` beside `out`. It is written where there is none.
        skip_unreadable: Count unreadable rows as dropped rather than stop at the first.
        strict: Stop at a file of a folder that is no log rather than pass over it.
        redact: Replace e-mail and IP addresses, keys, and user names in paths in what was said.
        source: Names the product that the logs are of: the turns' `source`, which then begins
            every conversation's id, so that products with the same ids stay apart.
        keep: Columns of the log, or paths into them, that stay with the turns as their `segments`.
        on_progress: Told every few thousand rows.

    Raises:
        RecordError: If a source, a required column or a row cannot be read, or nothing is left.
        SettingsError: If `columns` names a field or column that does not exist, or the salt cannot
            be used.
        StorageError: If `out` or the salt cannot be written.
    """
    files = files_of(sources, is_log, FORMAT_NAMES)
    if strict:
        files = [replace(file, named=True) for file in files]
    options = IngestOptions(
        columns or {}, Salt(salt or salt_beside(out)), skip_unreadable, redact, source, keep
    )
    read = {"log": [Input(file.name, file.digest()) for file in files]}
    run = StageRun(out, Manifest("ingest", read, {**options.to_json(), "strict": strict}))
    earlier = run.earlier(IngestReport)
    if earlier is not None:
        return earlier
    return ingest_files(files, run, options, on_progress)


def ingest_files(
    files: Sequence[LogFile], run: StageRun, options: IngestOptions, on_progress: OnProgress
) -> IngestReport:
    """Read files into one turns table, even if the table is there already.

    Args:
        files: In the order of reading.
        run: Where the table goes, and what it is made from.
        options: How rows are read.
        on_progress: Told every few thousand rows.

    Raises:
        RecordError: If a required column or a row cannot be read, or nothing is left.
        SettingsError: If the options name a field or column that does not exist.
        StorageError: If the table or the salt cannot be written.
    """
    out = run.out
    with run.output() as partial:
        counts, ignored, carried = RowCounts(), set[str](), set[str]()
        with TurnRowWriter(partial.with_name("rows.parquet")) as rows:
            with (
                CallParts(partial.with_name("parts.parquet"), counts) as parts,
                MessageTable(partial.with_name("messages.parquet"), counts) as messages,
            ):
                read = _Gathered(rows, parts, messages, counts)
                for file in files:
                    source = _Source(file.label, options, read, on_progress)
                    try:
                        source.read(file)
                    except NotALogError as error:
                        if file.named:
                            raise
                        reason = str(error).partition(": ")[2].partition(". ")[0]
                        counts.passed_over[file.name] = reason
                        counts.layouts.pop(file.name, None)
                    else:
                        ignored |= source.names.ignored
                    carried |= source.names.carried_in_rows
            _refuse_absent([column for column in options.keep if column not in carried])
            if parts.n_rows or messages.n_rows:
                with _sorting_engine(partial, out) as backend:
                    named = replace(options, columns={}, keep=())  # where the rows were read
                    source = _Source(_JOINED, named, read, on_progress)
                    joined = chain(
                        joined_calls(backend, parts.path) if parts.n_rows else (),
                        turns_of_table(backend, messages, counts) if messages.n_rows else (),
                    )
                    source.read_rows(joined, _JOINED)
                    counts.layouts.pop(_JOINED)
        if rows.n_rows == 0:
            raise RecordError(_nothing_left([file.name for file in files], counts))
        report = _deduplicated(
            rows, partial, out, counts, ignored, skip_unreadable=options.skip_unreadable
        )
        run.record(report)
        options.salt.keep()
    return report


def _refuse_absent(columns: Sequence[str]) -> None:
    if columns:
        raise SettingsError(
            f"{columns[0]}: no row has this column, which --keep names (in `turnout learn`, --by); "
            "expected a column of the log, or a path into one."
        )


@dataclass(frozen=True, slots=True)
class _Gathered:
    """What all sources are read into.

    Attributes:
        rows: Rows of turns.
        parts: Parts of calls, which are joined when all sources are read.
        messages: Single messages, which are joined then too.
        counts: Added to.
        sessions: The sessions of the files that were read.
    """

    rows: TurnRowWriter
    parts: CallParts
    messages: MessageTable
    counts: RowCounts
    sessions: KnownSessions = field(default_factory=KnownSessions)


class _Source:
    """Reads one source and writes its rows to disk.

    Args:
        label: The turns' `source` where the log names none.
        options: How rows are read.
        gathered: Where they are written.
        on_progress: Told every few thousand rows.
    """

    def __init__(
        self, label: str, options: IngestOptions, gathered: _Gathered, on_progress: OnProgress
    ) -> None:
        self.names = ColumnNames(options.columns, options.keep)
        self._label = label
        self._options = options
        self._counts = gathered.counts
        self._rows = gathered.rows
        self._parts = gathered.parts
        self._messages = gathered.messages
        self._sessions = gathered.sessions
        self._message_columns: MessageColumns | None = None
        self._on_progress = on_progress
        self._n_read = 0

    def read(self, file: LogFile) -> None:
        """Read a file; whole columns at a time if each row is a turn."""
        if is_parquet(file) and self._read_columns(file):
            return
        self.read_rows(read_rows(file), file.name, is_named=file.named)

    def read_rows(self, raw_rows: Iterable[RawRow], where: str, *, is_named: bool = True) -> None:
        """Read rows one by one.

        Args:
            raw_rows: Rows of any layout.
            where: The file, for messages.
            is_named: Whether the user named it; a file of a folder need not be a log.
        """
        layouts = self._counts.layouts.setdefault(where, Counter())
        read = rows_of_turns(raw_rows, where, self.names.chosen_in, layouts, self._sessions)
        rows = self._without_parts(read)
        first = list(_first(rows))
        samples = [raw.values for raw in first if raw.values and not raw.dropped_as]
        if first and not any(r.values or r.problem or r.dropped_as for r in first):
            raise NotALogError(f"{where}: no row has a column; expected rows of turns.")
        if first and not is_named and all(row.problem for row in first):
            raise NotALogError(f"{where}: {first[0].problem}; expected rows of turns.")
        if samples:
            self._check(samples, where, may_be_messages=not any(raw.is_read for raw in first))
        if (columns := self._message_columns) is not None:
            self._messages.begin_file(where)
            layouts[MESSAGE_A_ROW] = layouts.pop(TURN_A_ROW)
            for raw in chain(first, rows):
                self._read_message(raw, columns)
            layouts[MESSAGE_A_ROW] += layouts.pop(TURN_A_ROW, 0)
        else:
            for raw in chain(first, rows):
                self._read_row(raw)
        self._on_progress(f"ingest {self._label}", self._n_read, self._n_read)

    def _check(
        self, samples: Sequence[Mapping[str, Any]], where: str, *, may_be_messages: bool = True
    ) -> None:
        """Find the columns of a log; refuse one whose columns cannot be turns.

        A log of a single model need not name it, where no column looks as if it did.

        Args:
            samples: Its first rows.
            where: The log, for messages.
            may_be_messages: Whether a row may be a single message.

        Raises:
            SettingsError: If the user names a field or column that does not exist.
            NotALogError: If a required column is missing.
        """
        missing = self.names.missing(samples)
        columns = dict.fromkeys(name for row in samples for name in row)
        mapped = self.names.of(columns)
        if may_be_messages:
            fields = ("conversation_id", "timestamp", "model")
            taken = [mapped[field] for field in fields if field in mapped]
            text = self._options.columns.get("user_message")
            self._message_columns = message_columns(samples, text, taken)
        if self._message_columns is not None:
            columns_read = self._message_columns.read
            self.names.note_read(columns_read)
            # A table that names no conversation is one.
            missing = [field for field in missing if field == "conversation_id"]
            if not guessed_columns(samples, missing, {*mapped.values(), *columns_read}):
                missing = []
        taken_all = mapped.values()
        if missing and (missing != ["model"] or guessed_columns(samples, missing, taken_all)):
            raise NotALogError(refusal(where, samples, missing, taken_all, KNOWN_SOURCES))

    def _read_message(self, raw: RawRow, columns: MessageColumns) -> None:
        """Read a row that is a single message; its turn is read when all messages are there."""
        if raw.problem is not None or raw.dropped_as is not None or raw.is_read:
            self._read_row(raw)
            return
        facts = self.names.segments_in(raw.values) | {"source": self._label}
        try:
            self._messages.add(raw, columns, self.names.of(raw.values), facts)
        except UnreadableRowError as error:
            self._read_row(replace(raw, values={}, problem=str(error)))
        else:
            self._count_read(1)

    def _without_parts(self, rows: Iterable[RawRow | CallPart]) -> Iterator[RawRow]:
        for row in rows:
            if isinstance(row, CallPart):
                self._parts.add(row, self._label)
            else:
                yield row

    def _read_row(self, raw: RawRow) -> None:
        row = None if raw.dropped_as else self._canonical(raw)
        if row is None:
            self._counts.dropped[raw.dropped_as or UNREADABLE] += 1
            if raw.values and raw.dropped_as:
                self._rows.write_failed_call(raw.values, self._options.source)
        elif (reason := self._no_words(row, raw)) is not None:
            self._counts.dropped[reason] += 1
        else:
            if self._options.redact:
                for name in _MESSAGES:
                    row[name] = self._redacted(row[name])
            if source := self._options.source:
                row["source"] = source
                row["conversation_id"] = f"{source}:{row['conversation_id']}"
            else:
                row["source"] = row["source"] or self._label
            transcript = raw.values.get(TRANSCRIPT)
            if isinstance(transcript, Transcript):
                self._rows.write_transcript(transcript, row)
            self._rows.write_turn(row, raw.where)
        self._count_read(1)

    def _no_words(self, row: dict[str, Any], raw: RawRow) -> str | None:
        """Why a row has no words of a person; None if it has.

        A row that no reader of its source made may hold a product's words beside a person's.
        """
        message = row["user_message"]
        if not raw.is_read:
            words = split_harness(message)
            if (helper := helper_by_wording(words.human)) is not None:
                return f"{HELPER_CALL}: {helper}"
            if words.harness:
                if not words.human:
                    return HARNESS_ALONE
                row["user_message"] = message = words.human
                self._counts.mended[HARNESS_LEFT_OUT] += 1
        if message.strip():
            return None
        return WITHOUT_TEXT if raw.is_read else EMPTY

    def _canonical(self, raw: RawRow) -> dict[str, Any] | None:
        problem = raw.problem
        if problem is None:
            try:
                values = {**raw.values, **self.names.segments_in(raw.values)}
                names, mended = self.names.of(values), self._counts.mended
                row = canonical(
                    values, names, self._options.salt, mended, by_time=self.names.by_time
                )
                mended.update(raw.mended)
            except UnreadableRowError as error:
                problem = str(error)
            else:
                return row
        if self._options.skip_unreadable:
            return None
        raise RecordError(
            f"{raw.where}: {problem}. Fix the row, or pass --skip-unreadable to leave such rows "
            "out and count them."
        )

    def _read_columns(self, file: LogFile) -> bool:
        batches = parquet_batches(file)
        first = next(batches, None)
        if first is None or not read_by_turns(first.schema.names):
            return False
        self._check(first.slice(0, _FIRST_ROWS).to_pylist(), file.name)
        if self.names.needs_rows or self._message_columns is not None:
            return False
        self._counts.layouts[file.name] = layouts = Counter[str]()
        n_before = 0
        for batch in chain([first], batches):
            self._read_batch(batch, file.name, n_before)
            n_before += batch.num_rows
        layouts[TURN_A_ROW] = n_before
        self._on_progress(f"ingest {self._label}", self._n_read, self._n_read)
        return True

    def _read_batch(self, batch: pa.RecordBatch, where: str, n_before: int) -> None:
        names = self.names.of(batch.schema.names)
        mended = self._counts.mended
        turns, is_odd = canonical_columns(
            batch, names, self._options.salt, mended, by_time=self.names.by_time
        )
        if self._options.redact:
            for name in _MESSAGES:
                texts = map(self._redacted, turns[name].to_pylist())
                turns = _replaced(turns, name, pa.array(texts, pa.string()))
        if source := self._options.source:
            ids = pc.binary_join_element_wise(source, turns["conversation_id"], ":")
            turns = _replaced(turns, "conversation_id", ids)
            turns = _replaced(turns, "source", pa.repeat(source, turns.num_rows))
        else:
            logged = pc.fill_null(turns["source"], "")
            sources = pc.if_else(pc.equal(logged, ""), self._label, logged)
            turns = _replaced(turns, "source", sources)
        self._rows.write_turns(turns)
        self._count_read(turns.num_rows)
        odd = [n for n, odd in enumerate(is_odd.to_pylist(), start=n_before + 1) if odd]
        for number, values in zip(odd, batch.filter(is_odd).to_pylist(), strict=True):
            self._read_row(RawRow(f"{where}: row {number}", values))

    def _redacted(self, text: str | None) -> str | None:
        return None if text is None else redacted(text, self._counts.redacted)

    def _count_read(self, n_rows: int) -> None:
        before, self._n_read = self._n_read, self._n_read + n_rows
        if before // _PROGRESS_ROWS < self._n_read // _PROGRESS_ROWS:
            self._on_progress(f"ingest {self._label}", self._n_read, None)


def _first(rows: Iterator[RawRow]) -> Iterator[RawRow]:
    """The rows in which columns are looked for."""
    n_chars = 0
    for row in islice(rows, _FIRST_ROWS):
        yield row
        n_chars += sum(len(value) for value in row.values.values() if isinstance(value, str))
        if n_chars >= _FIRST_CHARS:
            return


def _replaced(turns: pa.Table, name: str, texts: pa.Array | pa.ChunkedArray) -> pa.Table:
    index = turns.schema.get_field_index(name)
    return turns.set_column(index, turns.schema.field(index), texts)


def _deduplicated(
    rows: TurnRowWriter,
    partial: Path,
    out: Path,
    counts: RowCounts,
    ignored: set[str],
    *,
    skip_unreadable: bool,
) -> IngestReport:
    """Write the turns table; what became of all rows."""
    with _sorting_engine(partial, out) as backend:
        numbered = numbered_rows(backend, rows, skip_unreadable=skip_unreadable)
        counts.mended.update(numbered.mended)
        repeated = write_turns(backend, numbered.rows, rows, partial)
        left_out = {UNREADABLE: numbered.refused, OTHER_BRANCH: numbered.other_branch}
        dropped = counts.dropped + repeated + Counter(left_out)
        several = count_turns_of_several_models(backend, numbered.rows) if repeated else 0
        facts = _facts(backend, partial, numbered.cut)
    noted = {SEVERAL_MODELS: several} | {name: facts[name] for name in _NOTED}
    return IngestReport(
        rows_read=facts["rows"] + dropped.total(),
        rows_kept=facts["rows"],
        dropped={reason: n for reason, n in sorted(dropped.items()) if n},
        mended=dict(sorted(counts.mended.items())),
        conversations=facts["conversations"],
        complete_conversations=facts["complete"],
        noted={name: n for name, n in sorted(noted.items()) if n},
        ignored_columns=sorted(ignored),
        redacted=dict(sorted(counts.redacted.items())),
        passed_over=counts.passed_over,
        layouts={name: dict(columns) for name, columns in counts.layouts.items() if columns},
        fresh=True,
    )


@contextlib.contextmanager
def _sorting_engine(partial: Path, out: Path) -> Iterator[ibis.BaseBackend]:
    """An engine that sorts in bounded memory and on the output's disk."""
    backend = connect(memory_mb=_MEMORY_MB, spill=partial.with_name("spill"))
    try:
        with interruptible(backend):
            yield backend
    except duckdb.Error as error:
        if isinstance(error, duckdb.OutOfMemoryException) and not lacks_disk(error):
            raise RecordError(
                f"{out}: the rows could not be sorted in {_MEMORY_MB:,} MB of memory "
                f"({str(error).splitlines()[0]}); expected some thousands of them to fit. Ingest "
                "fewer files at a time, or leave out the longest rows; nothing was left "
                "half-written."
            ) from error
        raise StorageError(
            f"{out}: the rows could not be sorted ({str(error).splitlines()[0]}); "
            "expected free space of about three times the log's size. Free some space and run it "
            "again; nothing was left half-written."
        ) from error
    finally:
        backend.disconnect()


def _facts(backend: ibis.BaseBackend, turns: Path, cut: ibis.Table | None) -> dict[str, int]:
    """Counts of the finished table; conversations that are `cut` are not whole."""
    rows = read_parquet(backend, turns)
    before = ibis.window(group_by="conversation_id", order_by="turn_index")
    rows = rows.mutate(
        earlier=(rows.timestamp < rows.timestamp.lag().over(before)).fill_null(False)
    )
    status = rows.response_type.lower()
    by_conversation = rows.group_by("conversation_id").agg(
        least=rows.turn_index.min(),
        greatest=rows.turn_index.max(),
        rows=rows.count(),
        **{
            NO_TIME: rows.timestamp.isnull().sum(),
            NO_MODEL: rows.model.isnull().sum(),
            NO_TOKENS: (rows.prompt_tokens.isnull() & rows.completion_tokens.isnull()).sum(),
            NOT_ANSWERED: status.isin(["cancelled", *FAILED]).fill_null(False).sum(),
            BACKWARDS: rows.earlier.sum(),
        },
    )
    whole = (by_conversation.least == 1) & (by_conversation.greatest == by_conversation.rows)
    if cut is not None:
        whole &= ~by_conversation.conversation_id.isin(cut.conversation_id)
    facts = by_conversation.agg(
        conversations=by_conversation.count(),
        complete=whole.sum(),
        rows=by_conversation.rows.sum(),
        **{name: by_conversation[name].sum() for name in _NOTED},
    )
    (row,) = backend.to_pyarrow(facts).to_pylist()
    return {name: int(value or 0) for name, value in row.items()}


def _nothing_left(names: Sequence[str], counts: RowCounts) -> str:
    reasons = [f"{n} {reason}" for reason, n in sorted(counts.dropped.items()) if n]
    reasons += [f"{name}: {why}" for name, why in counts.passed_over.items()]
    return (
        f"{', '.join(names)}: no turn left of {counts.dropped.total()} rows "
        f"({', '.join(reasons) or 'the log is empty'}); expected at least one row with a user "
        "message."
    )
