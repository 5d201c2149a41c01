"""What a request asks and what an answer says, the same for every wire format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["user", "assistant", "tool", "system"]
ENDS_TURN = frozenset({"interruption", "compaction summary"})
"""Kinds of harness text after which a person's words are a turn of their own."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: Whose words they are. A user message that holds tool results alone is `tool`.
        text: The words; of a user message those that the person wrote.
        harness: Names of the kinds of harness text that was set apart, in order.
        attachments: Types of the parts that are no text: `image`, `document`, `audio`, …
        tools: Names of the tools that an assistant message calls, in order.
    """

    role: Role
    text: str = ""
    harness: tuple[str, ...] = ()
    attachments: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()

    @property
    def ends_turn(self) -> bool:
        """Whether the product says here that the turn before was interrupted or summarised."""
        return bool(self.harness) and not ENDS_TURN.isdisjoint(self.harness)

    @property
    def is_human(self) -> bool:
        """Whether a person says something here, in words or by an attachment."""
        return self.role == "user" and bool(self.text.strip() or self.attachments)


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked of a model.

    Attributes:
        messages: The conversation, oldest first.
        model: The model that was asked for.
        streamed: Whether the answer is asked for as a stream of events.
        tools: Whether the request offers tools.
        answer_schema: The JSON schema that the answer must follow; empty where there is none.
        effort: The reasoning effort that the caller asks for, in its own word; `none` where it
            switches thinking off, `enabled` where it sets a budget; None where it says nothing.
        previous_response_id: The response that this request goes on from, where the upstream keeps
            the history.
        instructions: The beginning of each block of a system prompt that stands beside the
            messages; empty where there is none.
        max_answer_tokens: How many tokens the answer may have; None where the request says nothing.
    """

    messages: tuple[Message, ...]
    model: str | None = None
    streamed: bool = False
    tools: bool = False
    answer_schema: Mapping[str, object] = field(default_factory=dict)
    effort: str | None = None
    previous_response_id: str | None = None
    instructions: str = ""
    max_answer_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as the upstream counted them; None where it did not say.

    Attributes:
        prompt_tokens: All input, read from a cache or not.
        completion_tokens: All output, reasoning included.
        reasoning_tokens: Of the output.
        cached_tokens: Of the input: read from the prompt cache.
        cache_write_tokens: Of the input: written to the prompt cache.
        cache_write_1h_tokens: Of those written: kept for an hour rather than for five minutes.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered.

    Attributes:
        text: The assistant's words; of several choices those of the first.
        tools: Names of the tools that it calls, in order, each call once.
        model: The model that the upstream says it served.
        usage: What it cost in tokens.
        failed: Whether it is an error instead, or ends with one.
        complete: Whether it came to its end: the last event of a stream, or a whole body.
        pending: Whether it will be answered later: a response that runs in the background.
        finish_reason: Why it ended, in the format's own word.
        error: The error's message.
        response_id: The upstream's id of the response.
        other_texts: The words of further choices, in order of their index.
    """

    text: str = ""
    tools: tuple[str, ...] = ()
    model: str | None = None
    usage: Usage = Usage()
    failed: bool = False
    complete: bool = False
    pending: bool = False
    finish_reason: str | None = None
    error: str | None = None
    response_id: str | None = None
    other_texts: tuple[str, ...] = ()
