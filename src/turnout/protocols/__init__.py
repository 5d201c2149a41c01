"""One reading of each wire format: OpenAI chat completions and responses, Anthropic messages."""

from __future__ import annotations

from turnout.protocols.bodies import read_answer, read_request
from turnout.protocols.chat import checked_messages
from turnout.protocols.harness import Words, split_harness
from turnout.protocols.kinds import KINDS, RequestKind
from turnout.protocols.records import Answer, Message, Request, Usage
from turnout.protocols.transcript import grouped, turns_of

__all__ = [
    "KINDS",
    "Answer",
    "Message",
    "Request",
    "RequestKind",
    "Usage",
    "Words",
    "checked_messages",
    "grouped",
    "read_answer",
    "read_request",
    "split_harness",
    "turns_of",
]
