"""A router and a turns table → the scored table: each turn's score and the facts for a replay.

The table is a file: what was scored once is never scored again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tokenizers import Tokenizer

from turnout.catalog import Catalog
from turnout.engine import DUCKDB, connect, mapped, reading
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
from turnout.turns import (
    count_repeats,
    read_turns,
    refuse_repeats,
    require_places,
    with_model_facts,
)

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
# With the time that scoring took, in the first row of what was scored together.
_TIMED = SCORED.append(pa.field("seconds", pa.float64()))
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
    engine: str = DUCKDB,
    on_progress: OnProgress = silent,
) -> ScoredReport:
    """Score every turn that the router decides on, in bounded memory.

    A session router decides at a conversation's first turn, a conversation router at every turn.
    Scores are for the log where the router knows its share of reasoning.

    Args:
        router: A router folder.
        turns: A turns table.
        out: Where the scored table goes (Parquet); the file appears only once complete.
        catalog: Says which model and class a logged name means.
        other: Scores in the router's place what the router reads.
        engine: Where turns are read and scored; see `engine.connect`. It changes no byte.
        on_progress: Called every few conversations.

    Raises:
        ArtifactError: If the router cannot be used.
        RecordError: If the file is not a whole turns table, or has several rows for a turn.
        SettingsError: If the engine is not there.
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
    earlier = run.earlier(ScoredReport)
    if earlier is not None:
        return earlier
    scoring = _Scoring(folder.path.absolute(), None if other is None else other.fit())
    backend = connect(engine)
    with reading(turns, backend):
        log = read_turns(backend, turns)
        require_places(turns)
        total = int(backend.to_pyarrow(log.count()).as_py())
        refuse_repeats(turns, count_repeats(backend, log))
        facts = with_model_facts(log, backend, catalog).select(*_READ)
        counted = _Counted(turns, total, on_progress)
        timed = mapped(
            backend, facts, scoring, _TIMED, together="conversation_id", order_by=TURN_KEYS
        )
        with run.output() as partial:
            write_parquet_in_order(counted.rows(timed), SCORED, partial)
            report = counted.report(population)
            run.record(report)
    return report


@dataclass(frozen=True, slots=True)
class _Scoring:
    """What scores the turns of whole conversations, in this process or in Spark's.

    Attributes:
        router: The router folder.
        score: Scores in the router's place; None for the router itself.
    """

    router: Path
    score: Score | None

    def __call__(self, turns: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Scored rows of turns that come conversation by conversation, in order of their index."""
        folder = RouterFolder.read(self.router)
        score = self.score or folder.scorer(population=folder.spec.priors.default).score
        tokenizer = read_tokenizer(folder.path / TOKENIZER_NAME)
        rows = (row for batch in turns for row in batch.to_pylist())
        conversations = (list(of) for _, of in groupby(rows, key=itemgetter("conversation_id")))
        while some := list(islice(conversations, _CONVERSATIONS_A_BATCH)):
            for conversation in some:
                _count_tokens(conversation, tokenizer)
            yield _scored(some, folder.spec.formatter, score)


def _scored(conversations: list[list[_Row]], formatter: Formatter, score: Score) -> pa.RecordBatch:
    rows = [row for conversation in conversations for row in conversation]
    shown = [each for turns in conversations for each in _inputs(turns, formatter)]
    decided = [position for position, each in enumerate(shown) if each is not None]
    began = time.perf_counter()
    scores = score([each for each in shown if each is not None]).tolist()
    seconds = time.perf_counter() - began
    for position, p_reasoning in zip(decided, scores, strict=True):
        rows[position]["p_reasoning"] = p_reasoning
    rows[0]["seconds"] = seconds
    columns = {field.name: [row.get(field.name) for row in rows] for field in _TIMED}
    columns["model"] = [row["model_name"] for row in rows]
    return pa.RecordBatch.from_pydict(columns, _TIMED)


def _count_tokens(conversation: list[_Row], tokenizer: Tokenizer) -> None:
    """Give rows the tokenizer's counts where the log has none, and mark them."""

    def tokens(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    before = 0
    for row in conversation:
        asked, answered = row["user_message"], row["assistant_message"] or ""
        row["message_chars"] = len(asked)
        row["estimated"] = row["prompt_tokens"] is None or row["completion_tokens"] is None
        if row["estimated"]:
            own, answer = tokens(asked), tokens(answered)
            if row["prompt_tokens"] is None:
                row["prompt_tokens"] = before + own
            if row["completion_tokens"] is None and answered:
                row["completion_tokens"] = answer
            before = row["prompt_tokens"] + answer
        else:
            before = row["prompt_tokens"] + row["completion_tokens"]


class _Counted:
    """Passes scored rows on to the file, and counts them."""

    def __init__(self, turns: Path, total: int, on_progress: OnProgress) -> None:
        self._turns = turns
        self._total = total
        self._on_progress = on_progress
        self._counts = dict.fromkeys(("turns", "conversations", "scored", "estimated"), 0)
        self._seconds = 0.0
        self._last: str | None = None

    def report(self, population: Population) -> ScoredReport:
        """What was scored."""
        return ScoredReport(
            **self._counts, population=population, seconds=self._seconds, fresh=True
        )

    def rows(self, timed: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows as they are stored."""
        for batch in timed:
            ids = batch["conversation_id"].to_pylist()
            self._counts["turns"] += len(ids)
            self._counts["conversations"] += sum(
                name != before for before, name in pairwise([self._last, *ids])
            )
            self._last = ids[-1] if ids else self._last
            self._counts["scored"] += len(ids) - batch["p_reasoning"].null_count
            self._counts["estimated"] += batch["estimated"].true_count
            self._seconds += pc.sum(batch["seconds"]).as_py() or 0.0
            self._on_progress("score", self._counts["turns"], self._total)
            yield batch.select(SCORED.names)


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
