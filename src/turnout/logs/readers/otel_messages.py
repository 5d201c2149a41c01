"""What was said in a model call's span, in every writing that the conventions have had.

Now: `gen_ai.input.messages` and `gen_ai.output.messages`. Before: an attribute a message
(`gen_ai.prompt.0.content`, as OpenLLMetry writes), an event a message (`gen_ai.user.message`), or
two events with all of them (`gen_ai.content.prompt`); an event stands in the span, or is a log
record of its own. Knows no file.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from turnout.logs.readers.messages import (
    Message,
    Values,
    first_of,
    mapping,
    message_of,
    messages_of,
    parsed,
)

_NUMBERED = re.compile(r"(?:gen_ai|llm)\.(prompt|completion)s?\.(\d{1,6})\.(role|content)")
_EVENT_OF_ROLE = re.compile(r"gen_ai\.(system|user|assistant|tool)\.message")
_CHOICE = "gen_ai.choice"
_ALL_AT_ONCE = {
    "gen_ai.content.prompt": ("gen_ai.prompt", "user"),
    "gen_ai.content.completion": ("gen_ai.completion", "assistant"),
}


def said_in(facts: Values, events: Sequence[tuple[str, Values]]) -> list[Message]:
    """What was asked and answered, in order; empty where the span tells neither.

    Args:
        facts: The span's attributes, by name.
        events: The span's events in order: name and attributes.
    """
    asked = messages_of(facts.get("gen_ai.input.messages"))
    if asked:
        return [*asked, *(messages_of(facts.get("gen_ai.output.messages")) or [])]
    return _numbered(facts) or [one for name, event in events for one in said_in_event(name, event)]


def _numbered(facts: Values) -> list[Message]:
    """Messages whose parts are attributes of their own, by their numbers."""
    found: dict[tuple[bool, int], dict[str, object]] = defaultdict(dict)
    for name, value in facts.items():
        if match := _NUMBERED.fullmatch(name):
            found[match[1] == "completion", int(match[2])][match[3]] = value
    return [
        message_of(
            parts.get("role") or ("assistant" if answered else "user"),
            _content(parts.get("content")),
        )
        for (answered, _), parts in sorted(found.items())
    ]


def said_in_event(name: str, event: Values) -> Iterator[Message]:
    """The messages of an event, without a text where it tells none; of others none.

    Args:
        name: The event's.
        event: Its attributes by name, and its `body` where it has one.
    """
    if name in _ALL_AT_ONCE:
        attribute, role = _ALL_AT_ONCE[name]
        messages = messages_of(event.get(attribute))
        yield from messages or [message_of(role, _content(event.get(attribute)))]
        return
    # Some products write the whole event as JSON in one attribute.
    body = mapping(parsed(first_of(event, ("gen_ai.event.content", "body")))) or event
    if name == _CHOICE:
        said = mapping(parsed(body.get("message"))) or body
        yield message_of("assistant", _content(said.get("content")))
    elif match := _EVENT_OF_ROLE.fullmatch(name):
        yield message_of(body.get("role") or match[1], _content(body.get("content")))


def _content(content: object) -> object:
    """Content is text, or parts as JSON in text."""
    parts = parsed(content)
    return parts if isinstance(parts, list) else content
