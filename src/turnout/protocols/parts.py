"""Content as text or as a list of parts → its words, attachments and tools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from turnout.protocols.harness import TOOL_RESULT, split_harness
from turnout.protocols.records import Message, Role

_TEXTS = {"text", "input_text", "output_text", "refusal"}
TOOL_USES = {"tool_use", "server_tool_use", "mcp_tool_use"}
_RESULTS = {"tool_result", "tool_response"}
_SILENT = {"thinking", "redacted_thinking", "reasoning", "compaction"}
_ATTACHMENTS = {
    "image": "image", "image_url": "image", "input_image": "image",
    "document": "document", "file": "document", "input_file": "document",
    "input_audio": "audio", "audio": "audio", "video": "video", "video_url": "video",
}  # fmt: skip

_INSTRUCTIONS_CHARS = 600


# What tables and other languages hold exactly.
MAX_COUNT = 2**53
_PLAIN = (type(None), str, int, float, list)
_PIECE_CHARS = 1 << 18


@dataclass(slots=True)
class Content:
    """What a message's content holds.

    Attributes:
        texts: Blocks of text, in order.
        attachments: Types of the parts that are no text.
        tools: Names of the tools that are called.
        results: Whether it holds results of tools.
    """

    texts: list[str] = field(default_factory=list)
    attachments: list[str] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)
    results: bool = False


def content_of(value: object) -> Content:
    """Read content; parts of unknown types say nothing."""
    content = Content()
    if isinstance(value, str):
        content.texts.append(readable(value))
    elif isinstance(value, list):
        for part in value:
            _add(content, part)
    elif isinstance(value, Mapping):
        _add(content, value)
    return content


def _add(content: Content, part: object) -> None:
    if isinstance(part, str):
        content.texts.append(readable(part))
        return
    if not isinstance(part, Mapping):
        return
    kind, text = part.get("type", "text"), part.get("text", part.get("refusal"))
    if not isinstance(kind, str):
        return
    if kind in _TEXTS and isinstance(text, str):
        content.texts.append(readable(text))
    elif kind in TOOL_USES and isinstance(part.get("name"), str):
        content.tools.append(readable(part["name"]))
    elif kind in _RESULTS:
        content.results = True
    elif kind in _ATTACHMENTS:
        content.attachments.append(_ATTACHMENTS[kind])


def message_of(role: Role, content: Content) -> Message:
    """A message; a person's words are taken apart from harness text."""
    tools, attachments = tuple(content.tools), tuple(content.attachments)
    if role != "user":
        return Message(role, "\n".join(content.texts), (), attachments, tools)
    words = split_harness(*content.texts)
    has_results = content.results or TOOL_RESULT in words.harness
    only_results = has_results and not words.human and not attachments
    return Message(
        "tool" if only_results else "user", words.human, words.harness, attachments, tools
    )


def instructions_of(value: object) -> str:
    """The beginning of each block of a system prompt: what it is for stands there."""
    return "\n".join(text[:_INSTRUCTIONS_CHARS] for text in content_of(value).texts)


def mappings(value: object) -> list[Mapping[str, object]]:
    """The objects of a list; none where it is none."""
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, (dict, Mapping))]


def mapping(value: object) -> Mapping[str, object]:
    """The object, or an empty one."""
    # What JSON holds is told at once; asking for any other mapping takes ten times as long.
    if isinstance(value, dict):
        return value
    return value if not isinstance(value, _PLAIN) and isinstance(value, Mapping) else {}


def count(value: object, name: str) -> int | None:
    """A count under a name of an object; None where there is none that can be one."""
    number = mapping(value).get(name)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= MAX_COUNT:
        return None
    return number


def text(value: object) -> str | None:
    """The value where it is text that says something."""
    return readable(value) if isinstance(value, str) and value else None


def readable(value: str) -> str:
    """Text that any encoder takes: half of a surrogate pair becomes a replacement character.

    JSON holds such halves where a client has cut a text in the middle of an emoji.
    """
    if value.isascii():
        return value
    try:
        for piece in pieces(value):
            piece.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def pieces(value: str) -> Iterator[str]:
    """A text in pieces, so that no step over it holds the interpreter's lock for long."""
    for start in range(0, len(value), _PIECE_CHARS):
        yield value[start : start + _PIECE_CHARS]


def error_message(value: object) -> str | None:
    """What an `error` member says, in whichever form; None where it is no error."""
    if isinstance(value, Mapping):
        return text(value.get("message")) or text(value.get("type")) or "unknown error"
    return text(value)
