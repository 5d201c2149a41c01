"""One reading of each wire format: OpenAI chat completions and responses, Anthropic messages."""

from __future__ import annotations

from turnout.protocols.bodies import read_answer, read_request
from turnout.protocols.harness import Words, split_harness
from turnout.protocols.kinds import KINDS, RequestKind
from turnout.protocols.records import Answer, Message, Request, Usage
from turnout.protocols.transcript import turns_of

__all__ = [
    "KINDS",
    "Answer",
    "Message",
    "Request",
    "RequestKind",
    "Usage",
    "Words",
    "read_answer",
    "read_request",
    "split_harness",
    "turns_of",
]
