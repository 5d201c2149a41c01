"""The simulate stage: writes a realistic log, and its truth in a separate table."""

from __future__ import annotations

import datetime as dt
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from turnout.errors import SettingsError
from turnout.manifest import Manifest
from turnout.parquet import write_parquet
from turnout.progress import OnProgress, silent
from turnout.records import LABEL_REASONING, ModelClass
from turnout.schema import TRUTH, TURNS
from turnout.simulation import telemetry
from turnout.simulation.conversations import SimulatedTurn, draw_conversation
from turnout.stage import StageRun

_EPOCH = dt.datetime(2026, 3, 2, 7, 0, tzinfo=dt.UTC)
_WEEKS = 8
_PARTIAL_SHARE = 0.04
_RESENT_SHARE = 0.02
_CONVERSATIONS_A_USER = 6
_PROGRESS_EVERY = 50


@dataclass(frozen=True, slots=True)
class SimulateReport:
    """The size of the simulated log.

    Attributes:
        conversations: How many.
        rows: Rows of `turns.parquet`, with re-sent turns.
        turns: Rows of `truth.parquet`, one a captured turn.
        reasoning_share: Share of turns in [0, 1] that truly need reasoning.
        fresh: False where an earlier run with the same options was found.
    """

    conversations: int
    rows: int
    turns: int
    reasoning_share: float
    fresh: bool


def simulate(
    out: Path,
    *,
    n_conversations: int = 2000,
    seed: int = 0,
    noise: float = 0.15,
    on_progress: OnProgress = silent,
) -> SimulateReport:
    """Write `turns.parquet` and `truth.parquet` into the folder `out`.

    Args:
        out: A new folder, or an earlier output.
        n_conversations: At least 1.
        seed: The same seed gives the same bytes.
        noise: Share in [0, 1] of users who always use the same class, half of them reasoning and
            half fast.
        on_progress: Called every few conversations.

    Raises:
        SettingsError: If an option is out of range.
        StorageError: If the folder cannot be written.
    """
    if n_conversations < 1 or not 0 <= noise <= 1:
        raise SettingsError(
            f"simulate: found {n_conversations} conversations and noise {noise}; expected at "
            "least 1 and a share in [0, 1]."
        )
    options = {"n_conversations": n_conversations, "seed": seed, "noise": noise}
    run = StageRun(out, Manifest.of("simulate", {}, options))
    earlier = run.earlier(SimulateReport)
    if earlier is not None:
        return earlier
    rng = random.Random(seed)  # noqa: S311 (a simulator, not a secret)
    conversations = [draw_conversation(rng) for _ in range(n_conversations)]
    n_models = telemetry.models_per_conversation(rng, conversations)
    habits = _habits(rng, n_conversations, noise)
    turns: list[dict[str, Any]] = []
    truth: list[dict[str, Any]] = []
    for number, (conversation, models) in enumerate(zip(conversations, n_models, strict=True)):
        _add_conversation(rng, number, conversation, models, habits, turns, truth)
        if number % _PROGRESS_EVERY == 0:
            on_progress("simulate", number, n_conversations)
    on_progress("simulate", n_conversations, n_conversations)
    hard = sum(row["label"] == LABEL_REASONING for row in truth)
    report = SimulateReport(n_conversations, len(turns), len(truth), hard / len(truth), fresh=True)
    run.record(report)
    with run.output() as partial:
        partial.mkdir()
        write_parquet(pa.Table.from_pylist(turns, TURNS), partial / "turns.parquet")
        write_parquet(pa.Table.from_pylist(truth, TRUTH), partial / "truth.parquet")
    return report


def _habits(
    rng: random.Random, n_conversations: int, noise: float
) -> list[tuple[str, ModelClass | None]]:
    """A user id and a habit for each conversation."""
    n_users = max(1, n_conversations // _CONVERSATIONS_A_USER)
    users: list[tuple[str, ModelClass | None]] = []
    for number in range(n_users):
        habit: ModelClass | None = None
        if rng.random() < noise:
            habit = rng.choice(("reasoning", "fast"))
        users.append((f"user-{number:05d}", habit))
    return [rng.choice(users) for _ in range(n_conversations)]


def _add_conversation(
    rng: random.Random,
    number: int,
    conversation: list[SimulatedTurn],
    n_models: int,
    habits: list[tuple[str, ModelClass | None]],
    turns: list[dict[str, Any]],
    truth: list[dict[str, Any]],
) -> None:
    user_id, habit = habits[number]
    models = telemetry.assign_models(rng, conversation, n_models, habit)
    conversation_id = f"sim-{number:07d}"
    clock = _EPOCH + dt.timedelta(minutes=rng.randrange(_WEEKS * 7 * 24 * 60))
    # Conversations that switch are captured whole, so that the shares stay exact.
    captured = _captured(rng, len(conversation)) if n_models == 1 else range(len(conversation))
    for index, (turn, model) in enumerate(zip(conversation, models, strict=True)):
        usage = telemetry.draw_usage(rng, turn, index + 1, reasons=telemetry.is_reasoning(model))
        row = _row(conversation_id, index + 1, turn, model, clock, user_id, usage)
        clock += dt.timedelta(seconds=rng.lognormvariate(4.6, 1.3), milliseconds=usage.duration_ms)
        if index not in captured:
            continue
        turns.append(row)
        if rng.random() < _RESENT_SHARE:
            turns.append(row | {"user_message": _first_half(turn.user_message)})
        truth.append(
            {
                "conversation_id": conversation_id,
                "turn_index": index + 1,
                "label": turn.label,
                "difficulty": turn.difficulty,
                "kind": turn.kind,
            }
        )


def _captured(rng: random.Random, n_turns: int) -> range:
    """The turns that the log holds; rarely, the first ones are lost."""
    if n_turns < 2 or rng.random() >= _PARTIAL_SHARE:
        return range(n_turns)
    return range(rng.randrange(1, n_turns), n_turns)


def _first_half(message: str) -> str:
    return message[: max(1, len(message) // 2)]


def _row(
    conversation_id: str,
    turn_index: int,
    turn: SimulatedTurn,
    model: str,
    clock: dt.datetime,
    user_id: str,
    usage: telemetry.Usage,
) -> dict[str, Any]:
    return {
        "conversation_id": conversation_id,
        "turn_index": turn_index,
        "user_message": turn.user_message,
        "model": model,
        "timestamp": clock,
        "assistant_message": turn.assistant_message if usage.response_type == "success" else None,
        "response_type": usage.response_type,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cached_tokens": usage.cached_tokens,
        "llm_calls": usage.llm_calls,
        "tool_counts": json.dumps(usage.tools),
        "duration_ms": usage.duration_ms,
        "mode": "chat",
        "user_id": user_id,
        "feedback": None,
        "source": "simulator",
    }
