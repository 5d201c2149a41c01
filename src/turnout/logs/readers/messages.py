"""Lists of messages in all their spellings → turns: what the readers of sources share."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from turnout.logs.column_names import plain_name
from turnout.logs.columns import camel_case
from turnout.logs.columns import parsed as parsed
from turnout.logs.formats import RawRow
from turnout.logs.readers.parts import CallPart
from turnout.protocols.harness import TOOL_RESULT, split_harness
from turnout.protocols.records import ENDS_TURN

Values = Mapping[str, Any]
Turn = dict[str, Any]
Turns = list[Turn]

IDS = (
    "conversation_id", "conversationId", "conversation_hash", "session_id", "thread_id", "chat_id",
    "uuid", "id",
)  # fmt: skip
# Marks a turn whose message stood beside harness text; it is counted, and no column.
HARNESS = "harness"
# The kind of harness text that stands in place of a conversation's history.
COMPACTED = "compaction summary"
HARNESS_LEFT_OUT = "harness text of a product left out of the message"
HARNESS_ALONE = "harness text of a product without words of a person"
HELPER_CALL = "a product's helper call"
_ATTACHMENT = re.compile(r"image|audio|video|file|document|attachment|asset|^(?:uri|blob|media)$")
_KINDS_OF_PARTS = ("type", "content_type", "modality")
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SIDES = ("user", "assistant")
_TEXT_TYPES = ("text", "input_text", "output_text")
_THINKING = re.compile(r"\s*<think(?:ing)?>.*?</think(?:ing)?>\s*", re.DOTALL)
_MODELS = ("model", "model_name", "model_id", "modelID", "model_slug")
# Under these a message has an object of facts about itself.
_FACTS = ("metadata", "modelInfo", "model_info", "response_metadata", "extra")
_TIMES = (
    "timestamp", "created_at", "create_time", "startTime", "start_time", "created", "time", "date",
    "started_at", "sent_at", "ts",
)  # fmt: skip
# Who speaks in a message and what it says, by names without case and signs; the surest first.
_ROLE_NAMES = (
    "role", "from", "speaker", "sender", "author", "senderrole", "sendertype", "authorrole",
    "messagetype", "type",
)  # fmt: skip
_TEXT_NAMES = ("content", "value", "text", "parts", "body", "message", "utterance")
# Parts of Gemini and Bedrock are named by a key rather than by a type.
_ATTACHED = {"inlineData", "inline_data", "fileData", "file_data", "image", "document", "video"}
_CAMEL_CASE = {name: camel_case(name) for name in (*IDS, *_MODELS, *_TIMES, "user_id")}
# Names of roles, without case, signs and a `message` at the end.
_ROLES = {
    "user": "user", "human": "user", "prompter": "user", "customer": "user", "client": "user",
    "prompt": "user", "question": "user", "query": "user", "visitor": "user", "enduser": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "chatgpt": "assistant",
    "bing": "assistant", "bard": "assistant", "bot": "assistant", "ai": "assistant",
    "api": "assistant", "outgoing": "assistant", "outbound": "assistant", "incoming": "user",
    "inbound": "user", "chatbot": "assistant", "agent": "assistant", "llm": "assistant",
    "claude": "assistant", "gemini": "assistant", "copilot": "assistant", "completion": "assistant",
    "response": "assistant", "answer": "assistant", "aimessagechunk": "assistant",
    "tool": "tool", "function": "tool", "functioncall": "tool", "toolcall": "tool",
    "tooluse": "tool", "toolresult": "tool", "toolresponse": "tool", "functionresult": "tool",
    "functionresponse": "tool", "observation": "tool", "reasoning": "tool", "thinking": "tool",
    "system": "other", "developer": "other", "instructions": "other", "context": "other",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class NoTurn:
    """A row of a known source that is not a turn.

    Attributes:
        reason: What it is, as the account of dropped rows names it.
        failed_call: `conversation_id`, `model` and `timestamp` of a model call that failed and
            whose messages the log lacks; None where it is none.
    """

    reason: str
    failed_call: Turn | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """How the rows of one source become turns.

    Attributes:
        source: Its name, as the documentation has it.
        columns: What every such row has; rows without them are not asked about.
        turns: A row's values → its turns, and parts of calls that other rows tell of too; None
            where the row is not of this source, none where it is but nothing was said.
        counted_as: What a row without any is counted as; by default a conversation without a user
            message.
        one_of: Names without case and signs, of which every such row has one; empty where
            `columns` say enough.
    """

    source: str
    columns: tuple[str, ...]
    turns: Callable[[Values], Sequence[Turn | CallPart | NoTurn] | NoTurn | None]
    counted_as: str | None = None
    one_of: frozenset[str] = frozenset()

    def may_read(self, columns: Collection[str]) -> bool:
        """Whether a row with these columns may be of this source."""
        if not all(column in columns for column in self.columns):
            return False
        return not self.one_of or not self.one_of.isdisjoint(map(plain_name, columns))


@dataclass(frozen=True, slots=True)
class LoggedMessage:
    """One message of a log, with what the log says of it.

    What requests and answers hold is `turnout.protocols.Message`.

    Attributes:
        role: user, assistant, tool or other.
        text: The words; of a user message those that the person wrote.
        model: What answered, where the message names it.
        timestamp: When, in the log's own spelling.
        harness: Whether harness text was set apart from them.
        attached: Whether an image, a file or a recording came with them.
        compacted: Whether it holds a summary of the conversation in place of its history.
        ends_turn: Whether the product says here that the turn before was interrupted or summarised.
        regenerated_from: The model whose answer this one was made again of; None where none was.
    """

    role: str
    text: str
    model: object = None
    timestamp: object = None
    harness: bool = False
    attached: bool = False
    compacted: bool = False
    ends_turn: bool = False
    regenerated_from: object = None


def turns_of_messages(messages: Sequence[LoggedMessage], values: Values) -> Turns:
    """Group messages as the router does: user messages with nothing between them are one turn.

    A user message that is only an attachment is a turn without a message: it keeps its place, and
    its model and answer stay with it.

    Args:
        messages: In order.
        values: The row, for the facts that stand once for all of its turns.
    """
    turns = _grouped(messages)
    model, timestamp = model_in(values), first_of(values, _TIMES)
    common = {
        "conversation_id": first_of(values, IDS) or _content_id(turns),
        "user_id": first_of(values, ("user_id", "user", "hashed_ip")),
    }
    return [
        turn
        | common
        | {
            "turn_index": index,
            "model": turn["model"] or model,
            "timestamp": turn["timestamp"] or timestamp,
        }
        for index, turn in enumerate(turns, start=1)
    ]


def _grouped(messages: Sequence[LoggedMessage]) -> Turns:
    turns: Turns = []
    answering, harness = True, False
    for message in messages:
        harness |= message.harness
        answering |= message.ends_turn
        if message.role == "user" and (message.text.strip() or message.attached):
            if answering:
                turns.append(_begun(message))
            elif message.text.strip():
                before = turns[-1]["user_message"]
                joined = f"{before}\n\n{message.text}" if before else message.text
                turns[-1]["user_message"] = joined
            answering = False
            turns[-1][HARNESS], harness = harness or turns[-1].get(HARNESS, False), False
        elif message.role in ("assistant", "tool") and turns:
            answering = True
            turns[-1]["model"] = message.model or turns[-1]["model"]
            if message.regenerated_from is not None:
                turns[-1]["regenerated_from"] = message.regenerated_from
            if message.role == "assistant" and (answer := without_thinking(message.text)):
                turns[-1]["assistant_message"] = answer
    return turns


def without_thinking(text: str) -> str:
    """An answer without the reasoning that open models write before it; empty where it is nothing.

    Clients leave it out of the history that they send.
    """
    if (thinking := _THINKING.match(text)) is not None:
        text = text[thinking.end() :]
    return text if text.strip() else ""


def _begun(message: LoggedMessage) -> Turn:
    return {
        "user_message": message.text if message.text.strip() else "",
        "assistant_message": None,
        "model": message.model,
        "timestamp": message.timestamp,
    }


def row_of(turn: Turn, where: str, mended: tuple[str, ...]) -> RawRow:
    """A turn as a raw row."""
    if turn.pop(HARNESS, False):
        mended = (*mended, HARNESS_LEFT_OUT)
    return RawRow(where, turn, mended=mended, is_read=True)


def messages_of(value: object) -> list[LoggedMessage] | None:
    """A list of messages in any of its spellings, JSON text too; None where it is none."""
    value = parsed(value)
    if not isinstance(value, list):
        return None
    if value and all(map(_is_exchange, value)):
        return [message_of(*said) for pair in value for said in zip(_SIDES, pair, strict=True)]
    if not all(isinstance(item, Mapping) for item in value):
        return None
    items = [_unframed(item) for item in value]
    are_sure = any({"role", "from"} & item.keys() for item in items)
    if not are_sure:
        items = [in_snake_case(item) for item in items]
    keys = [_keys_of(tuple(item)) for item in items]
    roles = [_role_in(item, role_keys) for item, (role_keys, _) in zip(items, keys, strict=True)]
    if items and not are_sure and "user" not in map(known_role, roles):
        return _messages_of_pairs(items)
    return [
        message_of(
            role,
            _first(item, text_keys),
            model_in(item),
            first_of(item, _TIMES),
        )
        for item, role, (_, text_keys) in zip(items, roles, keys, strict=True)
    ]


def in_snake_case(values: Values) -> Values:
    """An object with keys like `created_at` in place of `CreatedAt`."""
    return {_CAPITAL.sub("_", name).lower(): inner for name, inner in values.items()}


def _is_exchange(item: object) -> bool:
    """Whether an item is a message with its answer, and no keys: `["…", "…"]`."""
    return (
        isinstance(item, list)
        and len(item) == len(_SIDES)
        and isinstance(item[0], str)
        and isinstance(item[1], str | None)
    )


def _unframed(item: Values) -> Values:
    """A message inside an object, together with the object's other fields."""
    if "role" in item or "from" in item:
        return item
    for name in ("message", "info"):
        inner = item.get(name)
        if isinstance(inner, Mapping) and "role" in inner:
            return {**{key: item[key] for key in item if key != name}, **inner}
    return item


@lru_cache(maxsize=1_000)
def _keys_of(columns: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The keys of a message that may say who speaks, and those that may say what."""
    column_of = {plain_name(column): column for column in reversed(columns)}
    roles, texts = (
        tuple(column_of[name] for name in names if name in column_of)
        for names in (_ROLE_NAMES, _TEXT_NAMES)
    )
    return roles, texts


def _role_in(item: Values, keys: Sequence[str]) -> object:
    """Who speaks: the first known role, else what the surest key says."""
    said = [mapping(item[key]).get("role", item[key]) for key in keys]
    return next((role for role in said if known_role(role)), said[0] if said else None)


def _first(item: Values, keys: Sequence[str]) -> object:
    return next((item[key] for key in keys if item[key] not in (None, "")), None)


def model_in(values: Values) -> object:
    """The model that a message or a row names, also in an object of facts about it."""
    for facts in (values, *(mapping(values[name]) for name in _FACTS if name in values)):
        if (model := first_of(facts, _MODELS)) is not None:
            return (
                first_of(model, (*_MODELS, "name", "id")) if isinstance(model, Mapping) else model
            )
    return None


def _messages_of_pairs(pairs: Sequence[Values]) -> list[LoggedMessage] | None:
    """The messages of `[{"human": …, "assistant": …}, …]`; None where these are no such pairs."""
    messages: list[LoggedMessage] = []
    for pair in pairs:
        said = {known_role(key): pair[key] for key in pair}
        if not said.keys() >= {"user", "assistant"}:
            return None
        time, model = first_of(pair, _TIMES), first_of(pair, _MODELS)
        messages.append(message_of("user", said["user"], None, time))
        messages.append(message_of("assistant", said["assistant"], model, time))
    return messages


def message_of(
    role: object, content: object, model: object = None, timestamp: object = None
) -> LoggedMessage:
    """A message by any product's name for its role; a person's words without harness text."""
    name = role_of(role)
    if name != "user":
        return LoggedMessage(name, text_of(content), model, timestamp)
    words = split_harness(*_texts_of(content))
    is_attached, compacted = _is_attached(content), COMPACTED in words.harness
    if TOOL_RESULT in words.harness and not words.human and not is_attached:
        name = "tool"
    harness = bool(words.harness)
    ends_turn = not ENDS_TURN.isdisjoint(words.harness)
    return LoggedMessage(
        name, words.human, model, timestamp, harness, is_attached, compacted, ends_turn
    )


def _is_attached(content: object) -> bool:
    parts = content if isinstance(content, list) else [content]
    kinds = (mapping(part).get(name) for part in parts for name in _KINDS_OF_PARTS)
    return any(
        isinstance(kind, str) and _ATTACHMENT.search(kind) is not None for kind in kinds
    ) or any(_ATTACHED & mapping(part).keys() for part in parts)


def text_of(value: object) -> str:
    """The text of a content: a text, parts with text, or lists of them; other parts have none."""
    return "\n".join(text for text in _texts_of(value) if text)


def _texts_of(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for part in value for text in _texts_of(part)]
    if isinstance(value, Mapping) and value.get("type", "text") in _TEXT_TYPES:
        if value.get("synthetic") is True:  # what opencode adds to a message
            return []
        text = value.get("text")
        if isinstance(text, Mapping):  # OpenAI's threads: {"value": …, "annotations": …}
            text = text.get("value")
        return _texts_of(text or value.get("content") or value.get("parts"))
    return []


def role_of(value: object) -> str:
    """user, assistant, tool or other, by any product's name for it."""
    return known_role(value) or "other"


def known_role(value: object) -> str | None:
    """As `role_of`; None for a name of no role."""
    return _role(value) if isinstance(value, str) else None


@lru_cache(maxsize=1_000)
def _role(name: str) -> str | None:
    """The role's plain name; `MessageRole.USER`, `HumanMessage` and `end-user` are users."""
    plain = re.sub(r"[^a-z]", "", name.lower().rpartition(".")[2])
    return _ROLES.get(plain) or _ROLES.get(plain.removesuffix("message").removeprefix("role"))


def mapping(value: object) -> Values:
    """The value where it is a mapping, else an empty one."""
    return value if isinstance(value, (dict, Mapping)) else {}  # testing for a dict first is faster


def first_of(values: Values, names: Sequence[str]) -> object:
    """The first of these values that is present and not empty, in either spelling."""
    for name in _spelled(tuple(names)):
        value = values.get(name)
        if value is not None and value != "":
            return value
    return None


@lru_cache(maxsize=1_000)
def _spelled(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, each in both spellings, where it has two."""
    return tuple(dict.fromkeys(each for n in names for each in (n, _CAMEL_CASE.get(n, n))))


def digest(text: str) -> str:
    """A name for a conversation that has none, made of what it says."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:24]


def _content_id(turns: Turns) -> str:
    return digest("|".join(turn["user_message"] for turn in turns))
