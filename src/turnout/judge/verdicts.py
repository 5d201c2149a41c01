"""Writes the questions to a judge model, and reads its answers.

An unusable answer is recorded with its reason and never becomes a label.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

from turnout.records import Turn
from turnout.routing.formatter import shortened

Status = Literal["judged", "not JSON", "out of range", "refused", "truncated", "empty", "failed"]
NEEDS = (1, 2, 3, 4, 5)
# The form of an answer, for endpoints with structured output.
ANSWER_SCHEMA: dict[str, Any] = {
    "name": "verdict",
    "strict": True,
    "schema": {
        "type": "object",
        "properties": {
            "reason": {"type": "string"},
            "need": {"type": "integer", "enum": list(NEEDS)},
        },
        "required": ["reason", "need"],
        "additionalProperties": False,
    },
}
PREVIOUS_TURNS = 4
_MESSAGE_CHARS = 6000
_PREVIOUS_CHARS = 600
_REASON_CHARS = 300


@dataclass(frozen=True, slots=True)
class Rubric:
    """The instructions to the judge model.

    Attributes:
        text: The system message.
        version: The first 12 hex digits of its sha256.
    """

    text: str
    version: str


def load_rubric() -> Rubric:
    """The shipped rubric."""
    text = resources.files("turnout.judge").joinpath("rubric.md").read_text(encoding="utf-8")
    return Rubric(text, hashlib.sha256(text.encode()).hexdigest()[:12])


@dataclass(frozen=True, slots=True)
class Question:
    """One question, and the turns it is about.

    Attributes:
        key: Hex sha256 of model, rubric and text: the key of its stored answer.
        text: The message that is sent after the rubric.
        turns: Conversation id and turn index of every turn with this text.
    """

    key: str
    text: str
    turns: tuple[tuple[str, int], ...]


def question_text(
    turns: Sequence[Turn], turn_index: int, *, redact: Callable[[str], str] | None = None
) -> str:
    """A turn as it is sent: a JSON object, so that no message is taken for an instruction.

    Args:
        turns: Oldest first, the one to judge last.
        turn_index: Its 1-based position.
        redact: Applied to every text before it is cut.
    """

    def prepared(text: str, max_chars: int) -> str:
        return shortened(redact(text) if redact else text, max_chars)

    previous = [
        {"user": prepared(turn.user_message, _PREVIOUS_CHARS)}
        | (
            {"assistant": prepared(turn.assistant_message, _PREVIOUS_CHARS)}
            if turn.assistant_message
            else {}
        )
        for turn in reversed(turns[:-1])
    ]
    message = prepared(turns[-1].user_message, _MESSAGE_CHARS)
    question = {"turn": turn_index, "previous": previous, "message": message}
    return json.dumps(question, ensure_ascii=False)


def question_key(model: str, rubric: Rubric, text: str) -> str:
    """Hex sha256 over everything that changes an answer."""
    return hashlib.sha256(json.dumps([model, rubric.version, text]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer says.

    Attributes:
        status: "judged", or why the answer is unusable.
        need: 1 to 5 where it was judged, else None.
        reason: The judge's own words where it was judged, else what came instead.
    """

    status: Status
    need: int | None
    reason: str


def read_answer(text: str | None, finish_reason: str | None, refusal: str | None) -> Verdict:
    """Read an endpoint's answer.

    Args:
        text: The answer's text.
        finish_reason: Why it ended, in the words of chat completions.
        refusal: The text of a refusal, in place of an answer.
    """
    if refusal or finish_reason == "content_filter":
        return Verdict("refused", None, (refusal or "content filter")[:_REASON_CHARS])
    if finish_reason == "length":
        return Verdict("truncated", None, (text or "")[:_REASON_CHARS])
    if not text or not text.strip():
        return Verdict("empty", None, "")
    try:
        answer = json.loads(_unfenced(text))
    except (ValueError, RecursionError):
        return Verdict("not JSON", None, text[:_REASON_CHARS])
    need = answer.get("need") if isinstance(answer, dict) else None
    if isinstance(need, bool) or need not in NEEDS:
        return Verdict("out of range", None, text[:_REASON_CHARS])
    return Verdict("judged", int(need), str(answer.get("reason", ""))[:_REASON_CHARS])


def _unfenced(text: str) -> str:
    """The text without the code fence that some models put around JSON."""
    text = text.strip()
    if not (text.startswith("```") and text.endswith("```")):
        return text
    return text.removesuffix("```").partition("\n")[2]
