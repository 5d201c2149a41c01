"""Turns → a judge model's answers on which need reasoning, within a budget.

Judging costs money and needs a network. It is a stage of its own, so that labels stay free and
repeatable; they use these answers as one source.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from turnout.engine import connect, reading
from turnout.errors import RecordError, SettingsError
from turnout.judge.answers import AnswerFile
from turnout.judge.report import CostEstimate, JudgeOptions, JudgeReport
from turnout.judge.run import JudgeRun
from turnout.judge.verdicts import (
    PREVIOUS_TURNS,
    Question,
    Rubric,
    load_rubric,
    question_key,
    question_text,
)
from turnout.manifest import Manifest
from turnout.parquet import write_parquet
from turnout.progress import OnProgress, silent
from turnout.records import Turn
from turnout.schema import TURN_KEYS
from turnout.stage import StageRun
from turnout.turns import read_turns, refuse_repeats, require_places


def judge_turns(
    turns: Path,
    out: Path,
    options: JudgeOptions,
    *,
    answers: Path | None = None,
    agree: Callable[[CostEstimate], None] = lambda _: None,
    on_progress: OnProgress = silent,
) -> JudgeReport:
    """Ask a judge model about turns and write its answers.

    Questions are asked in an order that the seed decides, and turns with the same text are one
    question. Every attempt reserves its bound before it is sent, so that the limit is never passed;
    an attempt that timed out, was cut off or failed inside the endpoint counts at its bound.

    Args:
        turns: A turns table.
        out: The Parquet file (`schema.JUDGED`), one row a turn asked about.
        options: Which model to ask, and how.
        answers: Where answers are stored; by default beside `out`.
        agree: Called with the estimate before anything is sent; raises to stop.
        on_progress: Called after every answer.

    Raises:
        RecordError: If the log cannot be read or has no message.
        SettingsError: If an option is out of range, or a limit has no price to count by.
        UpstreamError: If the endpoint answers nothing.
        StorageError: If an output cannot be written.
    """
    _check(options)
    rubric = load_rubric()
    stage = StageRun(out, Manifest.of("judge", {"turns": turns}, _output_options(options, rubric)))
    earlier = stage.earlier(JudgeReport)
    if earlier is not None and earlier.complete:
        return earlier
    backend = connect()
    with reading(turns, backend):
        questions = list(_questions(backend, turns, options, rubric))
    with AnswerFile(answers or out.with_name(out.name + ".answers.sqlite")) as stored:
        run = JudgeRun(questions, rubric, options, stored, on_progress)
        agree(run.estimate())
        asyncio.run(run.ask_all())
        report = run.report()
        stage.record(report)
        with stage.output() as partial:
            write_parquet(run.table(), partial)
    return report


def _check(options: JudgeOptions) -> None:
    if options.concurrency < 1 or (options.sample is not None and options.sample < 1):
        raise SettingsError(
            f"judge: found --concurrency {options.concurrency} and --sample {options.sample}; "
            "expected at least 1."
        )
    if options.max_usd is not None and options.price is None:
        raise SettingsError(
            f"--max-usd: no price of {options.model!r} is known, so no sum can be counted; "
            "expected --price IN OUT (USD for a million tokens), or a [[catalog.price]] in "
            "turnout.toml."
        )


def _questions(
    backend: ibis.BaseBackend, turns: Path, options: JudgeOptions, rubric: Rubric
) -> Iterator[Question]:
    """The different questions, in the order in which they are asked."""
    log = read_turns(backend, turns)
    require_places(turns)
    places = log.select(*TURN_KEYS)
    n_rows, n_places = (backend.to_pyarrow(t.count()).as_py() for t in (places, places.distinct()))
    refuse_repeats(turns, n_rows - n_places)
    log = log.filter(log.user_message.strip().length() > 0)
    keys = backend.to_pyarrow(log.select(*TURN_KEYS))
    sample = sorted(
        zip(*(keys[name].to_pylist() for name in TURN_KEYS), strict=True),
        key=lambda place: _draw(options.seed, *place),
    )[: options.sample]
    if not sample:
        raise RecordError(f"{turns}: no turn has a message; expected at least one.")
    texts = _texts(backend, log, sample, options)
    by_text: dict[str, list[tuple[str, int]]] = {}
    for key in sample:
        by_text.setdefault(texts[key], []).append(key)
    for text, keys_of_text in by_text.items():
        yield Question(question_key(options.model, rubric, text), text, tuple(keys_of_text))


def _draw(seed: int, conversation_id: str, turn_index: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{conversation_id}\0{turn_index}".encode()).digest()


def _texts(
    backend: ibis.BaseBackend,
    log: ibis.Table,
    sample: Sequence[tuple[str, int]],
    options: JudgeOptions,
) -> dict[tuple[str, int], str]:
    """The question text of each sampled turn."""
    in_order = ibis.window(group_by="conversation_id", order_by="turn_index")
    sides = ("user_message", "assistant_message")
    before = {
        f"{side}_{back}": log[side].lag(back).over(in_order)
        for side in sides
        for back in range(1, PREVIOUS_TURNS + 1)
    }
    sample_keys = pa.table(
        {
            "conversation_id": pa.array([key[0] for key in sample], pa.string()),
            "turn_index": pa.array([key[1] for key in sample], pa.int32()),
        }
    )
    near = log.mutate(**before).semi_join(ibis.memtable(sample_keys), list(TURN_KEYS))
    rows = backend.to_pyarrow(near.select(*TURN_KEYS, sides[0], *before))
    texts = {}
    for batch in rows.to_batches(max_chunksize=1000):
        for row in batch.to_pylist():
            text = question_text(_turns(row), row["turn_index"], redact=options.redact)
            texts[row["conversation_id"], row["turn_index"]] = text
    return texts


def _turns(row: dict[str, Any]) -> list[Turn]:
    """The turn of a row and those before it, oldest first."""
    back = range(PREVIOUS_TURNS, 0, -1)
    previous = [
        Turn(row[f"user_message_{n}"], row[f"assistant_message_{n}"])
        for n in back
        if row[f"user_message_{n}"] is not None
    ]
    return [*previous, Turn(row["user_message"])]


def _output_options(options: JudgeOptions, rubric: Rubric) -> dict[str, Any]:
    """The options that change the output; key, timeout and concurrency do not."""
    return {
        "base_url": options.base_url,
        "model": options.model,
        "sample": options.sample,
        "seed": options.seed,
        "max_usd": options.max_usd,
        "price": asdict(options.price) if options.price else None,
        "redact": options.redact is not None,
        "rubric": rubric.version,
    }
