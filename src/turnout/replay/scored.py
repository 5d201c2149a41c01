"""A router and a turns table → the scored table: every turn's score and what a replay must know.

The table is a file: what was scored once is never scored again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from turnout.catalog import Catalog
from turnout.engine import batches, connect, reading
from turnout.errors import RecordError
from turnout.manifest import Manifest
from turnout.parquet import write_parquet_in_order
from turnout.progress import OnProgress, silent
from turnout.records import Architecture, ModelInput, Population, Turn
from turnout.routing import Formatter, RouterFolder
from turnout.routing.encoding import read_tokenizer
from turnout.routing.folder import SCORING_LIBRARIES, TOKENIZER_NAME
from turnout.routing.formatter import MAX_STORED_TURNS
from turnout.schema import TIMESTAMP, TURN_KEYS
from turnout.stage import StageRun
from turnout.turns import read_turns, require_places, with_model_facts

SCORED = pa.schema(
    [
        pa.field("conversation_id", pa.string(), nullable=False),
        pa.field("turn_index", pa.int32(), nullable=False),
        # Probability that the turn needs reasoning; null where the router does not decide.
        pa.field("p_reasoning", pa.float32()),
        pa.field("timestamp", TIMESTAMP),
        pa.field("model", pa.string()),  # canonical; null where the log names none
        pa.field("model_class", pa.string()),
        pa.field("message_chars", pa.int32(), nullable=False),
        pa.field("prompt_tokens", pa.int64(), nullable=False),
        pa.field("completion_tokens", pa.int64()),
        pa.field("reasoning_tokens", pa.int64()),
        pa.field("cached_tokens", pa.int64()),
        # Whether a token count is the tokenizer's, since the log has none.
        pa.field("estimated", pa.bool_(), nullable=False),
        pa.field("segments", pa.string()),  # as in the turns
    ]
)
_READ = (
    *TURN_KEYS,
    "user_message",
    "assistant_message",
    "timestamp",
    "model_name",
    "model_class",
    "prompt_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "cached_tokens",
    "segments",
)
_CONVERSATIONS_A_BATCH = 256
_Row = dict[str, Any]
Score = Callable[[Sequence[ModelInput]], NDArray[np.floating]]


@dataclass(frozen=True, slots=True)
class OtherScorer:
    """What scores in a router's place, to be compared with it.

    Attributes:
        name: For tables and files.
        made_from: The data set that it was fitted to.
        fit: Gives what scores: inputs → shape `(n,)`, in [0, 1].
    """

    name: str
    made_from: Path
    fit: Callable[[], Score]


@dataclass(frozen=True, slots=True)
class ScoredReport:
    """What was scored.

    Attributes:
        turns: Rows of the table.
        conversations: Of so many conversations.
        scored: Turns with a score.
        population: The messages that scores are probabilities for.
        estimated: Turns with a token count that the tokenizer gave.
        seconds: How long scoring took, decisions of all cores counted one after another.
        fresh: False where an earlier run on the same inputs was there already.
    """

    turns: int
    conversations: int
    scored: int
    population: Population
    estimated: int
    seconds: float
    fresh: bool


def score_turns(
    router: Path,
    turns: Path,
    out: Path,
    *,
    catalog: Catalog,
    other: OtherScorer | None = None,
    on_progress: OnProgress = silent,
) -> ScoredReport:
    """Score every turn that the router decides on, in bounded memory.

    A session router decides at a conversation's first turn, a conversation router at every turn.
    Scores are for the log where the router knows its share of reasoning.

    Args:
        router: A router folder.
        turns: A turns table.
        out: Where the scored table goes (Parquet); the file appears only when whole.
        catalog: Says which model and class a logged name means.
        other: Scores in the router's place what the router reads.
        on_progress: Called every few conversations.

    Raises:
        ArtifactError: If the router cannot be used.
        RecordError: If the file is not a whole turns table, or has several rows for a turn.
        StorageError: If `out` cannot be written.
    """
    folder = RouterFolder.read(router)
    population = folder.spec.priors.default
    # Its files without router.json: another threshold changes no score.
    read = {"router": [folder.path / name for name in folder.files], "turns": [turns]}
    options = {
        "formatter": folder.spec.formatter.to_json(),
        "priors": folder.spec.priors.to_json(),
        "population": population,
        "catalog": catalog.digest,
        "columns": SCORED.names,
    }
    if other is not None:
        read["other"] = [other.made_from]
        options["other"] = other.name
    run = StageRun(out, Manifest.of("replay", read, options, libraries=SCORING_LIBRARIES))
    if run.is_done():
        return run.stored(ScoredReport)
    score = folder.scorer(population=population).score if other is None else other.fit()
    scoring = _Scoring(folder, score, turns, catalog, on_progress)
    with run.output() as partial:
        write_parquet_in_order(scoring.batches(), SCORED, partial)
        report = scoring.report()
        run.record(report)
    return report


class _Scoring:
    """The scored rows, and what is counted on the way."""

    def __init__(
        self,
        folder: RouterFolder,
        score: Score,
        turns: Path,
        catalog: Catalog,
        on_progress: OnProgress,
    ) -> None:
        self._folder = folder
        self._turns = turns
        self._catalog = catalog
        self._on_progress = on_progress
        self._population = folder.spec.priors.default
        self._score = score
        self._tokenizer = read_tokenizer(folder.path / TOKENIZER_NAME)
        self._counts = dict.fromkeys(("turns", "conversations", "scored", "estimated"), 0)
        self._seconds = 0.0

    def report(self) -> ScoredReport:
        return ScoredReport(
            **self._counts, population=self._population, seconds=self._seconds, fresh=True
        )

    def batches(self) -> Iterator[pa.RecordBatch]:
        backend = connect()
        with reading(self._turns, backend):
            log = read_turns(backend, self._turns)
            require_places(self._turns)
            facts = with_model_facts(log, backend, self._catalog).select(*_READ)
            total = int(backend.to_pyarrow(log.count()).as_py())
            rows = (
                row
                for batch in batches(backend, facts, order_by=TURN_KEYS)
                for row in batch.to_pylist()
            )
            pending: list[list[_Row]] = []
            for _, group in groupby(rows, key=itemgetter("conversation_id")):
                pending.append(list(group))
                if len(pending) == _CONVERSATIONS_A_BATCH:
                    yield self._scored(pending)
                    pending = []
                    self._on_progress("score", self._counts["turns"], total)
            if pending:
                yield self._scored(pending)
            self._on_progress("score", total, total)

    def _scored(self, conversations: list[list[_Row]]) -> pa.RecordBatch:
        formatter = self._folder.spec.formatter
        inputs: list[ModelInput] = []
        rows: list[_Row] = []
        decided: list[_Row] = []
        for conversation in conversations:
            self._refuse_repeats(conversation)
            for row, shown in zip(conversation, _inputs(conversation, formatter), strict=True):
                if shown is not None:
                    inputs.append(shown)
                    decided.append(row)
            rows += self._with_tokens(conversation)
        began = dt.datetime.now(dt.UTC)
        for row, score in zip(decided, self._score(inputs).tolist(), strict=True):
            row["p_reasoning"] = score
        self._seconds += (dt.datetime.now(dt.UTC) - began).total_seconds()
        self._counts["turns"] += len(rows)
        self._counts["conversations"] += len(conversations)
        self._counts["scored"] += len(inputs)
        self._counts["estimated"] += sum(row["estimated"] for row in rows)
        columns = {
            field.name: [row.get(field.name) for row in rows]
            for field in SCORED
            if field.name != "model"
        }
        columns["model"] = [row["model_name"] for row in rows]
        return pa.RecordBatch.from_pydict(columns, SCORED)

    def _refuse_repeats(self, conversation: list[_Row]) -> None:
        indices = [row["turn_index"] for row in conversation]
        if len(set(indices)) < len(indices):
            raise RecordError(
                f"{self._turns}: conversation {conversation[0]['conversation_id']} has several "
                "rows for a turn; expected one row a turn. Ingest the table with `turnout ingest`, "
                "which keeps one."
            )

    def _with_tokens(self, conversation: list[_Row]) -> list[_Row]:
        """Rows with the tokenizer's counts where the log has none, and marked so."""
        before = 0
        for row in conversation:
            asked, answered = row["user_message"], row["assistant_message"] or ""
            row["message_chars"] = len(asked)
            row["estimated"] = row["prompt_tokens"] is None or row["completion_tokens"] is None
            if row["estimated"]:
                own = self._tokens(asked)
                answer = self._tokens(answered)
                if row["prompt_tokens"] is None:
                    row["prompt_tokens"] = before + own
                if row["completion_tokens"] is None and answered:
                    row["completion_tokens"] = answer
                before = row["prompt_tokens"] + answer
            else:
                before = row["prompt_tokens"] + row["completion_tokens"]
        return conversation

    def _tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _inputs(conversation: list[_Row], formatter: Formatter) -> Iterator[ModelInput | None]:
    """What the encoder reads at each turn; None where the router does not decide."""
    architecture: Architecture = formatter.architecture
    turns = [Turn(row["user_message"], row["assistant_message"]) for row in conversation]
    for position, row in enumerate(conversation):
        if architecture == "session":
            is_first = position == 0 and row["turn_index"] == 1
            yield formatter.format(turns[:1]) if is_first else None
        else:
            seen = turns[max(0, position - MAX_STORED_TURNS) : position + 1]
            yield formatter.format(seen, row["turn_index"])
