"""What was said in a model call's span, in every writing that the conventions have had.

Now: `gen_ai.input.messages` and `gen_ai.output.messages`. Before: an attribute a message
(`gen_ai.prompt.0.content`, as OpenLLMetry writes), an event a message (`gen_ai.user.message`), or
two events with all of them (`gen_ai.content.prompt`); an event stands in the span, or is a log
record of its own. OpenInference writes `llm.input_messages.0.message.content`, the Vercel AI SDK
`ai.prompt.messages`. Knows no file.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from turnout.logs.readers.inputs import answer_in, messages_in
from turnout.logs.readers.messages import (
    LoggedMessage,
    Values,
    first_of,
    mapping,
    message_of,
    messages_of,
    parsed,
)
from turnout.protocols import read_answer

_NUMBERED = re.compile(
    r"(?:gen_ai|llm)\.(prompt|completion)s?\.(\d{1,6})\.(role|content|user|system|assistant)"
)
_OPEN_INFERENCE = re.compile(
    r"llm\.(input|output)_messages\.(\d{1,6})\.message\."
    r"(?:(role|content)|contents\.(\d{1,6})\.message_content\.(type|text))"
)
_EVENT_OF_ROLE = re.compile(r"gen_ai\.(system|user|assistant|tool)\.message")
_CHOICE = "gen_ai.choice"
_WHOLE_CALL = "gen_ai.client.inference.operation.details"
# Attributes in which events stand as JSON: Logfire and Pydantic AI.
_LISTED_EVENTS = ("all_messages_events", "events")
# Attributes that hold the whole input and output of a call, as trackers keep them: OpenInference,
# OpenLLMetry, Langfuse, MLflow, Braintrust, Langtrace.
_INPUTS = (
    "input.value", "gen_ai.prompt", "langfuse.observation.input", "mlflow.spanInputs",
    "braintrust.input_json", "llm.prompts",
)  # fmt: skip
_OUTPUTS = (
    "output.value", "gen_ai.completion", "langfuse.observation.output", "mlflow.spanOutputs",
    "braintrust.output_json", "llm.responses",
)  # fmt: skip
_ALL_AT_ONCE = {
    "gen_ai.content.prompt": ("gen_ai.prompt", "user"),
    "gen_ai.content.completion": ("gen_ai.completion", "assistant"),
}
# Attributes that hold a whole list of messages, or a whole object.
_WHOLE = {
    "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.prompt", "gen_ai.completion",
    "ai.prompt", "ai.prompt.messages", "ai.response.object", "metadata", *_INPUTS, *_OUTPUTS,
    *_LISTED_EVENTS,
}  # fmt: skip
_ANSWERS_OF_AI_SDK = (
    "ai.response.text",
    "ai.result.text",
    "ai.response.object",
    "ai.result.object",
)


def is_whole(name: str) -> bool:
    """Whether an attribute of this name is read as it is, rather than by its parts' names."""
    return name in _WHOLE


def said_in(facts: Values, events: Sequence[tuple[str, Values]]) -> list[LoggedMessage]:
    """What was asked and answered, in order; empty where the span tells neither.

    Args:
        facts: The span's attributes, by name.
        events: The span's events in order: name and attributes.
    """
    asked = messages_of(facts.get("gen_ai.input.messages"))
    if asked:
        return [*asked, *(messages_of(facts.get("gen_ai.output.messages")) or [])]
    return (
        _numbered(facts)
        or _open_inference(facts)
        or _ai_sdk(facts)
        or [message for event in events for message in _said_in_span_event(*event)]
        or _listed_events(facts)
        or _whole_values(facts)
    )


def _numbered(facts: Values) -> list[LoggedMessage]:
    """Messages whose parts are attributes of their own, by their numbers."""
    numbered: dict[tuple[bool, int], dict[str, object]] = defaultdict(dict)
    for name, value in facts.items():
        if match := _NUMBERED.fullmatch(name):
            parts = numbered[match[1] == "completion", int(match[2])]
            if match[3] in ("role", "content"):
                parts[match[3]] = value
            else:  # the role names the attribute
                parts |= {"role": match[3], "content": value}
    return [
        message_of(parts.get("role") or _role(answered), _content(parts.get("content")))
        for (answered, _), parts in sorted(numbered.items())
    ]


def _open_inference(facts: Values) -> list[LoggedMessage]:
    """The same with another name, and content that may be in parts with numbers of their own."""
    numbered: dict[tuple[bool, int], dict[str, object]] = defaultdict(dict)
    parts: dict[tuple[bool, int], dict[int, dict[str, object]]] = defaultdict(dict)
    for name, value in facts.items():
        match = _OPEN_INFERENCE.fullmatch(name)
        if match is None:
            continue
        key = (match[1] == "output", int(match[2]))
        if match[3]:
            numbered[key][match[3]] = value
        else:
            parts[key].setdefault(int(match[4]), {})[match[5]] = value
    return [
        message_of(
            numbered[key].get("role") or _role(key[0]),
            [part for _, part in sorted(parts[key].items())]
            or _content(numbered[key].get("content")),
        )
        for key in sorted(numbered.keys() | parts.keys())
    ]


def _role(answered: bool) -> str:
    return "assistant" if answered else "user"


def _ai_sdk(facts: Values) -> list[LoggedMessage]:
    asked = messages_of(facts.get("ai.prompt.messages"))
    prompt = mapping(parsed(facts.get("ai.prompt")))
    if not asked:
        asked = messages_of(prompt.get("messages") or prompt.get("prompt"))
    if not asked and isinstance(prompt.get("prompt"), str):
        asked = [message_of("user", prompt["prompt"])]
    answer = first_of(facts, _ANSWERS_OF_AI_SDK)
    return [*asked, message_of("assistant", answer)] if asked else []


def _said_in_span_event(name: str, event: Values) -> Iterable[LoggedMessage]:
    return said_in(event, ()) if name == _WHOLE_CALL else said_in_event(name, event)


def _listed_events(facts: Values) -> list[LoggedMessage]:
    listed = parsed(first_of(facts, _LISTED_EVENTS))
    events = [mapping(event) for event in listed] if isinstance(listed, list) else []
    return [m for event in events for m in said_in_event(str(event.get("event.name")), event)]


def _whole_values(facts: Values) -> list[LoggedMessage]:
    """A call whose span holds only the whole input and output, as JSON or as text."""
    asked = messages_of(messages_in(first_of(facts, _INPUTS)))
    if not asked:
        return []
    answer = read_answer(answer_in(first_of(facts, _OUTPUTS)))
    return [*asked, message_of("assistant", answer.text)]


def said_in_event(name: str, event: Values) -> Iterator[LoggedMessage]:
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
