"""New traffic → rows to compare with a router's reference: from turns, or from a journal."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from turnout.catalog import Catalog
from turnout.engine import batches, connect, materialized, reading
from turnout.errors import RecordError
from turnout.manifest import Manifest
from turnout.parquet import write_parquet_in_order
from turnout.progress import OnProgress
from turnout.replay.scored import score_turns
from turnout.routing import RouterFolder
from turnout.routing.encoding import read_tokenizer
from turnout.routing.folder import TOKENIZER_NAME
from turnout.routing.formatter import MAX_MESSAGE_CHARS, shortened
from turnout.routing.message_facts import message_facts
from turnout.routing.reference import Reference
from turnout.routing.served import Served
from turnout.routing.traffic_rows import TrafficRows
from turnout.schema import TURNS
from turnout.stage import StageRun
from turnout.turns import (
    count_repeats,
    drawn_conversations,
    read_turns,
    refuse_repeats,
    require_places,
)

# A longer log is sampled: more conversations would take long to score, and tell little more.
MOST_CONVERSATIONS = 3_000
MOST_TURNS = 10_000
_TURN_KINDS = ("turn", "continuation")


@dataclass(frozen=True, slots=True)
class NewTraffic:
    """Rows that the router decides on, and what became of the others.

    Attributes:
        rows: The rows.
        conversations: Of so many conversations.
        sampled_from: Conversations of the log, where only a sample of them was scored; else None.
        left_out: Reason → turns or requests that are not in the rows.
    """

    rows: TrafficRows
    conversations: int
    sampled_from: int | None
    left_out: dict[str, int]


def is_journal_without_text(path: Path) -> bool:
    """Whether a path is a gateway's journal, or a folder of them, that keeps no message."""
    lines = 0
    if not path.exists():
        return False
    for served in _journal_lines(path, strict=False):
        if served is None or served.get("user_message") is not None:
            return False
        lines += 1
    return lines > 0


def of_turns(
    router: RouterFolder,
    reference: Reference,
    turns: Path,
    out: Path,
    catalog: Catalog,
    on_progress: OnProgress,
) -> NewTraffic:
    """Score a turns table, or a sample of its conversations.

    Beside `out` lie the scores, and the sample where there is one: a rerun scores nothing again.

    Args:
        router: The router.
        reference: Its reference, which says how words are grouped.
        turns: A turns table.
        out: What the files beside it are named after.
        catalog: Says which models the log names.
        on_progress: Called while scoring.

    Raises:
        RecordError: If the table cannot be read, or the router decides on none of its turns.
        StorageError: If a file cannot be written.
    """
    architecture = router.spec.formatter.architecture
    table, sampled_from = _sampled(turns, out)
    scored = out.with_name(f"{out.name}.{architecture}-scores.parquet")
    score_turns(router.path, table, scored, catalog=catalog, on_progress=on_progress)
    log = pq.read_table(scored, columns=["conversation_id", "p_reasoning"])
    messages = _messages(table)
    names = log["conversation_id"].to_pylist()
    turn_counts = Counter(names)
    scores = log["p_reasoning"].to_pylist()
    decided = [position for position, score in enumerate(scores) if score is not None]
    if not decided:
        raise RecordError(
            f"{turns}: {len(names):,} turns, none of which the router decides on; expected first "
            "turns. Ingest a log whose conversations were captured from their start."
        )
    tokenizer = read_tokenizer(router.path / TOKENIZER_NAME)
    facts = message_facts([messages[position] for position in decided], tokenizer, reference.words)
    codes = _codes([names[position] for position in decided])
    rows = TrafficRows(
        conversations=codes,
        turn_counts=np.array([turn_counts[names[position]] for position in decided], np.float64),
        scores=np.array([scores[position] for position in decided], np.float64),
        facts=facts,
        weights=np.ones(len(decided)),
        prior=router.spec.priors.default_share,
    )
    left_out = {}
    if architecture == "session" and (missing := len(turn_counts) - len(decided)):
        left_out["conversations without their first turn"] = missing
    return NewTraffic(rows, int(codes.max()) + 1, sampled_from, left_out)


def of_journal(router: RouterFolder, journal: Path) -> NewTraffic:
    """Take the scores that a gateway recorded; texts are not needed.

    Args:
        router: The router; only requests that it scored are taken.
        journal: A journal file, or a folder of them.

    Raises:
        RecordError: If a line cannot be read, or no request was scored by this router.
    """
    left_out: Counter[str] = Counter()
    scores: dict[tuple[str, int], float] = {}
    turn_counts: Counter[str] = Counter()
    population = router.spec.priors.default
    for values in _journal_lines(journal):
        try:
            served = Served.from_json(values or {})
        except RecordError as error:
            raise RecordError(f"{journal}: {error}") from error
        if served.kind not in _TURN_KINDS:
            left_out["helper requests of a product"] += 1
            continue
        turn_counts[served.conversation_id] = max(
            turn_counts[served.conversation_id], served.turn_index
        )
        if served.p_reasoning is None or served.population is None:
            left_out["requests without a score"] += 1
        elif served.router != router.digest:
            left_out["requests that another router, or this one at another threshold, scored"] += 1
        elif not _decides(router, served):
            left_out["later turns, on which a session router does not decide"] += 1
        else:
            score = router.spec.priors.converted(served.p_reasoning, served.population, population)
            scores.setdefault((served.conversation_id, served.turn_index), score)
    if not scores:
        counted = "; ".join(f"{n:,} {why}" for why, n in left_out.items()) or "no request"
        raise RecordError(
            f"{journal}: no request with a score of the router {router.digest[:12]}…: {counted}. "
            "Name the router folder that the gateway served, or record texts in the journal."
        )
    names = [name for name, _ in scores]
    codes = _codes(names)
    exact = np.clip(np.array(list(scores.values()), np.float64), 1e-7, 1 - 1e-7)
    rows = TrafficRows(
        conversations=codes,
        turn_counts=np.array([turn_counts[name] for name in names], np.float64),
        scores=exact,
        facts=None,
        weights=np.ones(len(names)),
        prior=router.spec.priors.default_share,
    )
    return NewTraffic(rows, int(codes.max()) + 1, None, dict(left_out))


def _decides(router: RouterFolder, served: Served) -> bool:
    return router.spec.formatter.architecture == "conversation" or served.turn_index == 1


def _codes(names: list[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    _, codes = np.unique(np.asarray(names, object), return_inverse=True)
    return codes.astype(np.int64)


def _messages(turns: Path) -> list[str]:
    """Messages as the formatter shows them, in the order of the scored table."""
    backend = connect()
    with reading(turns, backend):
        log = read_turns(backend, turns).select("conversation_id", "turn_index", "user_message")
        return [
            shortened(message, MAX_MESSAGE_CHARS)
            for batch in batches(backend, log, order_by=("conversation_id", "turn_index"))
            for message in batch["user_message"].to_pylist()
        ]


def _sampled(turns: Path, out: Path) -> tuple[Path, int | None]:
    """The table itself, or one with a sample of its conversations and how many there are."""
    backend = connect()
    with reading(turns, backend):
        log = read_turns(backend, turns)
        require_places(turns)
        total = int(backend.to_pyarrow(log.conversation_id.nunique()).as_py())
        if total == 0:
            raise RecordError(
                f"{turns}: no turn; expected new traffic to compare. Ingest a longer log."
            )
        n_turns = pq.read_metadata(turns).num_rows
        if total <= MOST_CONVERSATIONS and n_turns <= MOST_TURNS:
            return turns, None
        refuse_repeats(turns, count_repeats(backend, log))  # of the log, not of its sample
        sample = out.with_name(f"{out.name}.sample.parquet")
        run = StageRun(sample, Manifest.of("drift", {"turns": turns}, {}))
        if not run.is_done():
            names = _drawn(backend, log)
            wanted = log.semi_join(materialized(backend, ibis.memtable(names)), "conversation_id")
            rows = wanted.select(*TURNS.names)
            with run.output() as partial:
                read = batches(backend, rows, order_by=("conversation_id", "turn_index"))
                write_parquet_in_order(read, TURNS, partial)
    return sample, total


def _drawn(backend: ibis.BaseBackend, log: ibis.Table) -> pa.Table:
    """Conversations drawn at random, at least one, up to both bounds."""
    taken: list[str] = []
    turns = 0
    for row in drawn_conversations(backend, log, "drift|", MOST_CONVERSATIONS):
        if taken and turns + row["turns"] > MOST_TURNS:
            continue
        turns += row["turns"]
        taken.append(row["conversation_id"])
    return pa.table({"conversation_id": pa.array(sorted(taken), pa.string())})


def _journal_lines(path: Path, *, strict: bool = True) -> Iterator[dict[str, Any] | None]:
    """The records of a journal; None, or an error if `strict`, for a line that is none."""
    for file in sorted(path.glob("*.jsonl")) if path.is_dir() else [path]:
        if not strict and file.suffix != ".jsonl":
            yield None
            continue
        with file.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                values = _record(line)
                if values is None and strict:
                    raise RecordError(
                        f"{file}:{number}: no record of a journal; expected one JSON object a "
                        "line, as the gateway writes them. Delete the line."
                    )
                yield values


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) and "served_version" in values else None
