"""One reading of each wire format: OpenAI chat completions and responses, Anthropic messages.

The modules `chat`, `responses` and `messages` answer the same questions (`WireFormat`):

| question | answer |
|---|---|
| what is asked | `read_call` gives a `Call`: request, kind, turns, conversation |
| what goes to a target | `JsonBody.changed(Changes(…))`: the same bytes but for some members |
| which parameters ask for an effort, for token counts | `effort_parameters`, `usage_parameters` |
| what came back | `AnswerReader(format, streamed=…)`: `feed` every chunk, then `answer()` |
| how errors look | `error_body`; in a stream `AnswerReader.error_event` |
| which models there are | `models_body`, `model_body` |

Standard library only. No clock, no network, no store. A reader takes any bytes; it raises only what
its docstring says.
"""

from __future__ import annotations

from turnout.protocols.answer_reader import AnswerReader
from turnout.protocols.bodies import read_answer, read_request
from turnout.protocols.calls import Call, read_call
from turnout.protocols.chat import checked_messages
from turnout.protocols.conversations import CONVERSATION_HEADER, Boundary, ConversationId
from turnout.protocols.harness import Words, split_harness
from turnout.protocols.json_body import Changes, JsonBody
from turnout.protocols.kinds import KINDS, RequestKind
from turnout.protocols.records import Answer, Message, Request, Usage
from turnout.protocols.transcript import grouped, messages_in, read_conversation, turns_of
from turnout.protocols.wire_format import WIRE_FORMATS, WireFormat

__all__ = [
    "CONVERSATION_HEADER",
    "KINDS",
    "WIRE_FORMATS",
    "Answer",
    "AnswerReader",
    "Boundary",
    "Call",
    "Changes",
    "ConversationId",
    "JsonBody",
    "Message",
    "Request",
    "RequestKind",
    "Usage",
    "WireFormat",
    "Words",
    "checked_messages",
    "grouped",
    "messages_in",
    "read_answer",
    "read_call",
    "read_conversation",
    "read_request",
    "split_harness",
    "turns_of",
]
