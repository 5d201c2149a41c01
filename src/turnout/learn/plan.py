"""What learning from a log would take, before anything is trained or asked."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from turnout.judge import Estimate, judge_turns
from turnout.labels import ExternalFiles, label_turns
from turnout.learn.line import ARCHITECTURES, LearnOptions, Places, read_logs
from turnout.progress import OnProgress, silent
from turnout.records import Architecture

# About how many rows a second the default encoder trains on two cores with bfloat16: an estimate.
# `make demo` beside a test suite had 26.9 and 13.9.
_ROWS_PER_S = {"session": 35.0, "conversation": 20.0}
_WITHOUT_BFLOAT16 = 4.0  # times slower


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done.

    Attributes:
        turns: Turns of the log.
        conversations: Of so many conversations.
        labelled: Turns with evidence of what they needed.
        training_minutes: Architecture → about how long it trains.
        judge: What the judge would cost; None without one.
    """

    turns: int
    conversations: int
    labelled: int
    training_minutes: dict[Architecture, float]
    judge: Estimate | None


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
    train_share = options.split[0] / sum(options.split)
    train_rows = {
        name: math.ceil(train_share * min(options.size, rows))
        for name, rows in (
            ("session", ingested.conversations),
            ("conversation", labels.labelled),
        )
    }
    return Plan(
        ingested.rows_kept,
        ingested.conversations,
        labels.labelled,
        {
            name: train_rows[name]
            * options.recipe.epochs_for(train_rows[name])
            / _rows_per_s(name)
            / 60
            for name in ARCHITECTURES
        },
        _judge_estimate(place, options, on_progress),
    )


def _rows_per_s(architecture: Architecture) -> float:
    import torch

    from turnout.training.precision import has_bfloat16

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cores = max(1, (os.cpu_count() or 2) / 2)
    slower = 1.0 if has_bfloat16(device, "auto") else _WITHOUT_BFLOAT16
    return _ROWS_PER_S[architecture] * cores / slower


def _judge_estimate(
    place: Places, options: LearnOptions, on_progress: OnProgress
) -> Estimate | None:
    if options.judge is None:
        return None
    estimates: list[Estimate] = []

    def stop(estimate: Estimate) -> None:
        estimates.append(estimate)
        raise _EstimatedError

    with contextlib.suppress(_EstimatedError):
        judge_turns(place.turns, place.judged, options.judge, agree=stop, on_progress=on_progress)
    return estimates[0] if estimates else None
