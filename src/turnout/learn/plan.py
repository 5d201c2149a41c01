"""What learning from a log would take, before anything is trained or asked."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from turnout.errors import SettingsError
from turnout.judge import CostEstimate, judge_turns
from turnout.labels import ExternalFiles, label_turns
from turnout.learn.line import ARCHITECTURES, LearnOptions, Places, read_logs
from turnout.learn.models import model_uses, targets_of
from turnout.progress import OnProgress, silent
from turnout.records import Architecture
from turnout.schema import TURN_KEYS

# Tokens a second that the default encoder trains on, on two quiet cores with bfloat16: `make demo`
# had 1,970 (session) and 2,264 (conversation).
_TOKENS_PER_S = 2_100
_WITHOUT_BFLOAT16 = 4.0  # times slower
# Start, linear model, calibration and export of a router.
_OVERHEAD_S = 20.0
_CHARS_PER_TOKEN = 4.0
# Special tokens; a conversation's row has a header too.
_OWN_TOKENS: dict[Architecture, float] = {"session": 2, "conversation": 12}
# What a conversation router's row shows of the turns before.
_PREVIOUS_TURNS, _PREVIOUS_CHARS = 4, 600


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done.

    Attributes:
        turns: Turns of the log.
        conversations: Of so many conversations.
        labelled: Turns with evidence of what they needed.
        training_minutes: Architecture → about how long it trains.
        judge: What the judge would cost; None without one.
        costs: A sentence: the models whose prices the costs will be of, or why there will be none.
    """

    turns: int
    conversations: int
    labelled: int
    training_minutes: dict[Architecture, float]
    judge: CostEstimate | None
    costs: str


class _EstimatedError(Exception):
    """The estimate is made: nothing is to be sent."""


def plan(
    logs: Sequence[str | Path],
    out: Path,
    options: LearnOptions,
    *,
    on_progress: OnProgress = silent,
) -> Plan:
    """Read and label the log, and say what the rest would take.

    Args:
        logs: As for `learn`.
        out: The folder; turns and labels stay there for `learn`.
        options: As for `learn`.
        on_progress: Called at every step.

    Raises:
        RecordError: If the log cannot be read.
        StorageError: If the folder cannot be written.
    """
    place = Places(out)
    ingested = read_logs(logs, place, options, on_progress)
    labels = label_turns(
        place.turns,
        place.labels,
        options.catalog,
        external=ExternalFiles(options.human, options.outcomes),
        on_progress=on_progress,
    )
    return Plan(
        ingested.rows_kept,
        ingested.conversations,
        labels.labelled,
        {name: _training_s(name, place, options) / 60 for name in ARCHITECTURES},
        _judge_estimate(place, options, on_progress),
        _costs(place, options),
    )


def _costs(place: Places, options: LearnOptions) -> str:
    uses = model_uses(place.turns, options.catalog)
    try:
        targets = targets_of(uses, options.targets, options.catalog)
    except SettingsError as error:
        return str(error)
    return (
        f"Costs will be those of {targets['reasoning'].name} and {targets['fast'].name}, at list "
        "prices; --reasoning-model and --fast-model name others."
    )


def _training_s(architecture: Architecture, place: Places, options: LearnOptions) -> float:
    """About how long a router trains: tokens of its rows, times passes, by the machine's rate."""
    from turnout.training.fitting import DEFAULT_MAX_TOKENS
    from turnout.training.samples import MIN_ROWS_TO_SHUFFLE
    from turnout.training.shuffled_context import SHUFFLED_SHARE

    budget = DEFAULT_MAX_TOKENS[architecture]
    if architecture == "conversation" and options.max_tokens is not None:
        budget = options.max_tokens
    tokens = _tokens_of_rows(architecture, place.turns, place.labels, budget)
    train_share = options.split[0] / sum(options.split)
    rows = math.ceil(train_share * min(options.size, len(tokens)))
    passes = options.recipe.epochs_for(max(rows, 1))
    if architecture == "conversation" and rows >= MIN_ROWS_TO_SHUFFLE:
        rows = round(rows * (1 + SHUFFLED_SHARE))
    mean = float(tokens.mean()) if len(tokens) else 0.0
    return _OVERHEAD_S + rows * passes * mean / _tokens_per_s()


def _tokens_of_rows(
    architecture: Architecture, turns: Path, labels: Path, budget: int
) -> NDArray[np.float64]:
    """About how many tokens each labelled turn has that the router could be trained on."""
    table = _lengths(turns).sort_by([(key, "ascending") for key in TURN_KEYS])
    ids = pc.dictionary_encode(table["conversation_id"]).combine_chunks().indices.to_numpy()
    chars = table["chars"].to_numpy().astype(np.float64)
    shown = chars.copy()
    if architecture == "conversation":
        for lag in range(1, min(_PREVIOUS_TURNS, len(chars) - 1) + 1):
            same = ids[lag:] == ids[:-lag]
            shown[lag:] += same * np.minimum(chars[:-lag], _PREVIOUS_CHARS)
    known = pq.read_table(labels, columns=list(TURN_KEYS))
    keys = set(zip(*(known[key].to_pylist() for key in TURN_KEYS), strict=True))
    rows = zip(*(table[key].to_pylist() for key in TURN_KEYS), strict=True)
    first_only = architecture == "session"
    used = [row in keys and (row[1] == 1 or not first_only) for row in rows]
    tokens = shown[np.asarray(used, bool)] / _CHARS_PER_TOKEN + _OWN_TOKENS[architecture]
    return np.asarray(np.minimum(tokens, budget), np.float64)


def _lengths(turns: Path) -> pa.Table:
    """Every turn and the characters of its message; the messages are not held."""
    columns = [*TURN_KEYS, "user_message"]
    with pq.ParquetFile(turns) as file:
        parts = [
            pa.table({key: batch[key] for key in TURN_KEYS}).append_column(
                "chars", pc.utf8_length(batch["user_message"])
            )
            for batch in file.iter_batches(columns=columns)
        ]
    return pa.concat_tables(parts)


def _tokens_per_s() -> float:
    import torch

    from turnout.training.precision import has_bfloat16

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cores = max(1, (os.cpu_count() or 2) / 2)
    slower = 1.0 if has_bfloat16(device, "auto") else _WITHOUT_BFLOAT16
    return _TOKENS_PER_S * cores / slower


def _judge_estimate(
    place: Places, options: LearnOptions, on_progress: OnProgress
) -> CostEstimate | None:
    if options.judge is None:
        return None
    estimates: list[CostEstimate] = []

    def stop(estimate: CostEstimate) -> None:
        estimates.append(estimate)
        raise _EstimatedError

    with contextlib.suppress(_EstimatedError):
        judge_turns(place.turns, place.judged, options.judge, agree=stop, on_progress=on_progress)
    return estimates[0] if estimates else None
