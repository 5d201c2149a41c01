"""Tables with a message a row, as databases of chat products have them: which columns say what."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from turnout.logs.column_names import paths_in, plain_name
from turnout.logs.columns import parsed, value_at
from turnout.logs.guesses import guessed_columns
from turnout.logs.readers.inputs import chat_message
from turnout.logs.readers.messages import Values, known_role, mapping, model_in

# The layout of such a table.
MESSAGE_A_ROW = "a message a row"

# Names without case and signs, the surest first.
_ROLES = (
    "role", "messagerole", "authorrole", "senderrole", "sendertype", "authortype", "sender",
    "author", "speaker", "from", "messagetype", "type", "participant", "participanttype",
    "direction",
)  # fmt: skip
_TEXTS = (
    "content", "text", "message", "messagetext", "messagecontent", "body", "parts", "value", "msg",
    "utterance", "contenttext", "textcontent", "output",
)  # fmt: skip
_ORDERS = (
    "turnindex", "messageindex", "index", "sequencenumber", "sequence", "seq", "position", "order",
    "ordinal", "idx", "messagenumber", "messageorder", "step", "turn",
)  # fmt: skip
_IDS = ("messageid", "id", "uuid", "messageuuid")
_PARENTS = (
    "parentid", "parentmessageid", "parentmessageuuid", "parentuuid", "replyto",
    "previousmessageid",
)  # fmt: skip
_ATTACHMENTS = ("attachments", "files", "images", "imageurls", "experimentalattachments")
# Columns that say yes or no.
_OF_PERSON = re.compile(r"(?:is)?(?:from|by|sentby|created)?(?:by)?(?:user|human|customer)")
_OF_ASSISTANT = re.compile(r"(?:is)?(?:from|by|sentby)?(?:bot|ai|assistant|model)(?:generated)?")
_YES, _NO = {"true", "t", "1", "yes"}, {"false", "f", "0", "no"}
# What a row of a whole turn has beside its message.
_ANSWERS = {"assistantmessage", "response", "answer", "completion"}
_LEAST_SHARE, _LEAST_SHARE_WITH_BOTH = 0.8, 0.4
_MAX_NAMES = 200
# What a part of a content has.
_PART = {"type", "text", "content_type"}


@dataclass(frozen=True, slots=True)
class MessageColumns:
    """Which columns of a table say what of a message; None where none does.

    Attributes:
        role: Who speaks.
        yes_means: The role of a row whose `role` says yes, where the column says yes or no.
        text: What is said.
        order: A number that orders the messages of a conversation.
        name: The message's own id.
        parent: The id of the message before it.
        attachments: What came with it beside text.
        inner: A column that holds the message as an object.
    """

    role: str
    yes_means: str | None
    text: str
    order: str | None
    name: str | None
    parent: str | None
    attachments: str | None
    inner: str | None

    @property
    def read(self) -> set[str]:
        """All of them."""
        columns = (self.role, self.text, self.order, self.name, self.parent, self.attachments)
        return {column for column in (*columns, self.inner) if column is not None}

    def role_in(self, values: Values) -> object:
        """Who speaks in a row, in the log's own word or in ours."""
        said = values.get(self.role)
        if self.yes_means is None:
            return said
        word = str(said).lower()
        other = "assistant" if self.yes_means == "user" else "user"
        return self.yes_means if word in _YES else other if word in _NO else said

    def message_in(self, values: Values) -> tuple[object, object]:
        """Who speaks in a row, and the content."""
        if self.inner is not None:
            said = chat_message(values.get(self.inner)) or {}
            return said.get("role"), said.get("content")
        return self.role_in(values), _content(value_at(values, self.text))

    def model_in(self, values: Values) -> object:
        """The model that a message names which stands in a column as an object."""
        return model_in(mapping(parsed(values.get(self.inner)))) if self.inner else None


def message_columns(
    rows: Sequence[Values], text: str | None, taken: Collection[str | None]
) -> MessageColumns | None:
    """The columns of a table with a message a row; None where its rows are something else.

    Args:
        rows: The first rows.
        text: The column of the text, where the user names it.
        taken: Columns that hold conversation, time or model.
    """
    names: dict[str, str] = {}
    for column in dict.fromkeys(column for row in rows for column in row):
        names.setdefault(plain_name(column), column)
    if len(names) > _MAX_NAMES or _ANSWERS & names.keys():
        return None
    inner = next((column for column in names.values() if _holds_messages(column, rows)), None)
    role, yes_means = (inner, None) if inner else _role_column(names, rows)
    taken = {role, *taken}
    text = text or inner or _first(names, _TEXTS, taken) or _path(rows) or _longest(rows, taken)
    if role is None or text is None:
        return None
    return MessageColumns(
        role=role,
        yes_means=yes_means,
        text=text,
        order=_first(names, _ORDERS),
        name=_first(names, _IDS, taken),
        parent=_first(names, _PARENTS),
        attachments=_first(names, _ATTACHMENTS),
        inner=inner,
    )


def _first(
    names: Mapping[str, str], wanted: Sequence[str], taken: Collection[str | None] = ()
) -> str | None:
    columns = (names[name] for name in wanted if name in names)
    return next((column for column in columns if column not in taken), None)


def _path(rows: Sequence[Values]) -> str | None:
    """A path into a column that holds the message as an object: `payload.text`."""
    paths = {path.rpartition(".")[2].lower(): path for row in rows for path in paths_in(row)}
    return next((paths[name] for name in ("text", "content", "body") if name in paths), None)


def _longest(rows: Sequence[Values], taken: Collection[str | None]) -> str | None:
    others = [column for column in taken if column is not None]
    return guessed_columns(rows, ["user_message"], others).get("user_message")


def _role_column(names: Mapping[str, str], rows: Sequence[Values]) -> tuple[str | None, str | None]:
    """The column that says who speaks; and what its yes means, where it says yes or no."""
    by_name = [names[name] for name in _ROLES if name in names]
    for column in (*by_name, *names.values()):
        if _says_roles(column, rows, is_named=column in by_name):
            return column, None
    for name, column in names.items():
        if _is_flag(column, rows):
            if _OF_PERSON.fullmatch(name):
                return column, "user"
            if _OF_ASSISTANT.fullmatch(name):
                return column, "assistant"
    return None, None


def _says_roles(column: str, rows: Sequence[Values], *, is_named: bool) -> bool:
    """Whether the column names persons and assistants; a table of persons alone has turns."""
    said = [row[column] for row in rows if row.get(column) not in (None, "")]
    roles = [known_role(value) for value in said]
    n_known = sum(role is not None for role in roles)
    least = _LEAST_SHARE if is_named else 1.0
    if "user" in roles and is_named:
        least = _LEAST_SHARE_WITH_BOTH
    is_enough = bool(said) and n_known >= least * len(said)
    return is_enough and "assistant" in roles and (is_named or "user" in roles)


def _is_flag(column: str, rows: Sequence[Values]) -> bool:
    said = {str(row[column]).lower() for row in rows if row.get(column) not in (None, "")}
    return bool(said & _YES) and bool(said & _NO) and said <= _YES | _NO


def _holds_messages(column: str, rows: Sequence[Values]) -> bool:
    """Whether a column's cells are messages of a library: `{"type": "human", "content": …}`."""
    cells = [row[column] for row in rows if row.get(column) not in (None, "")]
    if not cells or not isinstance(parsed(cells[0]), Mapping):
        return False
    messages = [chat_message(cell) for cell in cells]
    roles = [message["role"] for message in messages if message is not None]
    return len(roles) >= _LEAST_SHARE * len(cells) and "assistant" in roles


def _content(value: object) -> object:
    """Content as text, or as the parts that JSON text of a database holds; pasted JSON is text."""
    inner = parsed(value)
    if inner is value or isinstance(value, Mapping | list):
        return value
    parts = inner if isinstance(inner, list) else [inner]
    is_parts = all(isinstance(part, Mapping) and _PART & part.keys() for part in parts)
    return inner if is_parts and parts else value


def attachments_in(value: object) -> list[Values]:
    """What stands in a column of attachments, as parts of a content."""
    listed = parsed(value)
    return [{"type": "file"}] if isinstance(listed, list | Mapping) and listed else []
