"""Draws simulated conversations: the messages, and the true difficulty of each turn."""

from __future__ import annotations

import random
from dataclasses import dataclass

from turnout.records import LABEL_FAST, LABEL_REASONING
from turnout.simulation import requests

MAX_TURNS = 40
# Share of conversations whose requests are mostly hard, and how often each kind meets a hard one.
_DEMANDING_SHARE = 0.48
_HARD_SHARE = {True: 0.86, False: 0.08}
# Later turns: a request of its own, an acceptance, a transfer, small talk.
_KINDS = ("request", "follow_up", "transfer", "small_talk")
_KIND_SHARES = (0.52, 0.26, 0.12, 0.10)
_EASY_DIFFICULTY = 0.05
_ANSWERED = 0.8


@dataclass(frozen=True, slots=True)
class SimulatedTurn:
    """One turn and its truth.

    Attributes:
        user_message: What the user writes.
        assistant_message: The answer; None where the log lost it.
        kind: request, follow_up, transfer or small_talk.
        difficulty: In [0, 1]; a follow-up and a transfer take that of the pending request.
    """

    user_message: str
    assistant_message: str | None
    kind: str
    difficulty: float

    @property
    def label(self) -> int:
        """0 = reasoning, 1 = fast."""
        return LABEL_REASONING if self.difficulty >= requests.HARD_DIFFICULTY else LABEL_FAST


def draw_conversation(rng: random.Random) -> list[SimulatedTurn]:
    """A conversation of 1 to `MAX_TURNS` turns about one field of work."""
    domain = requests.draw_domain(rng)
    demanding = rng.random() < _DEMANDING_SHARE
    subject = requests.draw_object(rng, domain)
    pending = 0.0
    turns: list[SimulatedTurn] = []
    for index in range(_turn_count(rng)):
        kind = "request" if index == 0 else rng.choices(_KINDS, _KIND_SHARES)[0]
        if kind == "request":
            if rng.random() < 0.5:
                subject = requests.draw_object(rng, domain)
            hard = rng.random() < _HARD_SHARE[demanding]
            plan = requests.draw_plan(rng, domain, hard=hard)
            text, difficulty = requests.phrased(rng, plan, subject), plan.difficulty
            pending = difficulty
        elif kind == "follow_up":
            text, difficulty = requests.follow_up(rng), pending
        elif kind == "transfer":
            text, difficulty = requests.transfer(rng, domain), pending
        else:
            text, difficulty = requests.small_talk(rng), _EASY_DIFFICULTY
        reply = requests.answer(rng, subject) if rng.random() < _ANSWERED else None
        turns.append(SimulatedTurn(text, reply, kind, difficulty))
    return turns


def _turn_count(rng: random.Random) -> int:
    """Heavy-tailed: more than a third have one turn, one in twenty more than fifteen."""
    low, high = rng.choices(
        ((1, 1), (2, 3), (4, 7), (8, 15), (16, MAX_TURNS)), (0.36, 0.27, 0.2, 0.12, 0.05)
    )[0]
    return rng.randint(low, high)
