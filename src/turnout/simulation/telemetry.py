"""Draws the models of simulated conversations, and the telemetry of their turns."""

from __future__ import annotations

import random
from dataclasses import dataclass

from turnout.records import LABEL_REASONING, ModelClass
from turnout.simulation.conversations import SimulatedTurn

# Names as logs write them.
MODELS: dict[str, dict[ModelClass, tuple[str, ...]]] = {
    "anthropic": {
        "reasoning": ("claude-opus-4-5-20251101", "claude-opus-4-1-20250805"),
        "fast": ("claude-sonnet-4-5-20250929", "claude-haiku-4-5-20251001"),
    },
    "openai": {"reasoning": ("o3", "o4-mini"), "fast": ("gpt-4o", "gpt-4.1", "gpt-4o-mini")},
    "google": {"reasoning": ("gemini-2.5-pro",), "fast": ("gemini-2.5-flash",)},
}
_PROVIDER_SHARES = (0.5, 0.35, 0.15)
# Shares of conversations with two, and with three or more models, measured on 48,878 real ones.
TWO_MODELS = 0.038
THREE_MODELS = 0.004
_UNNAMED_SHARE = 0.01  # conversations on `auto`
_UNNAMED = "auto"
# Share of the conversations whose need changes that get switches before all others.
_CHANGE_DECIDES = 0.15


@dataclass(frozen=True, slots=True)
class Usage:
    """The telemetry of one turn.

    Attributes:
        response_type: success, cancelled or failed.
        prompt_tokens: All tokens sent, with the conversation so far.
        completion_tokens: All tokens received, with reasoning.
        reasoning_tokens: Those of them for reasoning; 0 on fast models.
        cached_tokens: Prompt tokens read from a cache.
        llm_calls: Model calls of the turn.
        tools: Tool name → calls.
        duration_ms: From request to last token.
    """

    response_type: str
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cached_tokens: int
    llm_calls: int
    tools: dict[str, int]
    duration_ms: int


def models_per_conversation(
    rng: random.Random, conversations: list[list[SimulatedTurn]]
) -> list[int]:
    """The number of distinct models of each conversation: 0 (unnamed), 1, 2 or 3.

    The shares are exact among conversations that name a model, if enough of them are long enough
    for a switch. Conversations whose need changes switch more often than others.
    """
    counts = [0 if rng.random() < _UNNAMED_SHARE else 1 for _ in conversations]
    named = sum(counts)
    for models, share in ((3, THREE_MODELS), (2, TWO_MODELS)):
        able = [
            i
            for i, conversation in enumerate(conversations)
            if counts[i] == 1 and len(conversation) > models
        ]
        rng.shuffle(able)
        able.sort(key=lambda i: not (_changes(conversations[i]) and rng.random() < _CHANGE_DECIDES))
        for i in able[: round(share * named)]:
            counts[i] = models
    return counts


def assign_models(
    rng: random.Random, conversation: list[SimulatedTurn], n_models: int, habit: ModelClass | None
) -> list[str]:
    """One model a turn.

    A user with a habit always takes that class; others take the class that their first request
    needs. A switch is at a turn that needs another class, if there is one: mostly an upgrade before
    a hard turn, sometimes to another provider.

    Args:
        rng: The source of randomness.
        conversation: The conversation.
        n_models: Distinct models to use; 0 for a conversation that names none.
        habit: The class that this user always takes; None for a user who chooses by need.
    """
    if n_models == 0:
        return [_UNNAMED] * len(conversation)
    provider = rng.choices(tuple(MODELS), _PROVIDER_SHARES)[0]
    current = _pick(rng, provider, habit or _needed(conversation[0]), avoid=())
    if n_models == 1:
        return [current] * len(conversation)
    used = [current]
    classes = {current: habit or _needed(conversation[0])}
    switches = _switch_turns(rng, conversation, n_models - 1)
    models: list[str] = []
    for index, turn in enumerate(conversation):
        if index in switches:
            needed = _needed(turn)
            if needed == classes[used[-1]] or rng.random() < 0.2:
                provider = rng.choice([p for p in MODELS if p != provider])
            used.append(_pick(rng, provider, needed, avoid=tuple(used)))
            classes[used[-1]] = needed
        models.append(used[-1])
    return models


def draw_usage(rng: random.Random, turn: SimulatedTurn, turn_index: int, *, reasons: bool) -> Usage:
    """Effort follows the true difficulty, loosely; about 7 % of turns are cancelled or failed."""
    effort = turn.difficulty * rng.lognormvariate(0, 0.5)
    written = int(60 + 700 * effort + rng.expovariate(1 / 80))
    thought = int(2500 * effort + rng.expovariate(1 / 300)) if reasons else 0
    prompt = 900 + 450 * (turn_index - 1) + len(turn.user_message) // 4
    calls = 1 + min(12, int(effort * rng.expovariate(1 / 3)))
    tools = {name: rng.randint(1, 3) for name in ("read", "edit", "run")[: min(3, calls - 1)]}
    return Usage(
        response_type=rng.choices(("success", "cancelled", "failed"), (0.93, 0.05, 0.02))[0],
        prompt_tokens=prompt * calls,
        completion_tokens=written + thought,
        reasoning_tokens=thought,
        cached_tokens=0 if turn_index == 1 else int(prompt * calls * rng.uniform(0.5, 0.95)),
        llm_calls=calls,
        tools=tools,
        duration_ms=int(400 + (written + thought) * rng.uniform(8, 16)),
    )


def is_reasoning(model: str) -> bool:
    """Whether a simulated model reasons."""
    return any(model in classes["reasoning"] for classes in MODELS.values())


def _changes(conversation: list[SimulatedTurn]) -> bool:
    return any(turn.label != conversation[0].label for turn in conversation)


def _needed(turn: SimulatedTurn) -> ModelClass:
    return "reasoning" if turn.label == LABEL_REASONING else "fast"


def _pick(
    rng: random.Random, provider: str, model_class: ModelClass, avoid: tuple[str, ...]
) -> str:
    free = [m for m in MODELS[provider][model_class] if m not in avoid]
    if not free:
        elsewhere = (m for p in MODELS if p != provider for m in MODELS[p][model_class])
        free = [m for m in elsewhere if m not in avoid]
    return rng.choice(free)


def _switch_turns(rng: random.Random, conversation: list[SimulatedTurn], n: int) -> set[int]:
    later = list(range(1, len(conversation)))
    changing = [i for i in later if conversation[i].label != conversation[0].label]
    switches = set(rng.sample(changing, min(n, len(changing))))
    unused = [i for i in later if i not in switches]
    return switches | set(rng.sample(unused, n - len(switches)))
