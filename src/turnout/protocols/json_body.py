"""A request's JSON body: read once, and changed by splicing its text, never by encoding it anew.

What is not changed keeps its bytes: escapes, lone surrogates, big integers, duplicate keys, white
space. It knows no wire format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from turnout.errors import RecordError
from turnout.protocols.long_strings import shortened
from turnout.protocols.parts import pieces

# Deeper JSON is refused. Real requests stay below 50; Python's own limit is near 950.
MAX_DEPTH = 512
# Longer numbers are read as None; they are forwarded as they came.
_MAX_DIGITS = 400
_LONG_CHARS = 1 << 18
_PIECE_CHARS = 1 << 17
_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBERS = re.compile(r"(?:[-+.0-9A-Za-z]++[ \t\n\r]*+,[ \t\n\r]*+)*+")


@dataclass(frozen=True, slots=True)
class Changes:
    """What a body is changed by.

    Names are those of the caller; a dot goes into an object: `reasoning.effort`.

    Attributes:
        values: Members to set. An object is merged into the caller's object, unless the two differ
            in `type`: then it is another variant and takes its place.
        dropped: Members to leave out, whether the caller has sent them or `values` would set them.
        renamed: Members to give another name, from old to new. Where the caller has sent the new
            name too, the old one is left out.
    """

    values: Mapping[str, object] = field(default_factory=dict)
    dropped: Iterable[str] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Member:
    """One member of an object, by its positions in the text."""

    name: str
    start: int
    name_end: int
    value_start: int
    end: int
    value: object


@dataclass(frozen=True, slots=True)
class JsonBody:
    """A JSON object and the text that it was read from.

    Attributes:
        text: The body.
        values: The object; of duplicate keys the last.
    """

    text: str
    values: Mapping[str, object]
    _members: tuple[_Member, ...]

    @classmethod
    def from_bytes(cls, data: bytes) -> JsonBody:
        """Read a body.

        Raises:
            RecordError: If it is no JSON object in UTF-8, or nested deeper than `MAX_DEPTH`.
        """
        try:
            text = data.decode()
            start = _after_space(text, 0)
            if text[start : start + 1] != "{":
                raise RecordError("body: found no JSON object; expected one. Send JSON.")
            members, end = _members_in_pieces(text, start)
            _expect_end(text, end)
        except UnicodeDecodeError as error:
            raise RecordError(
                f"body: byte {error.start} is not UTF-8; expected JSON in UTF-8."
            ) from error
        except ValueError as error:
            raise RecordError(f"body: not JSON ({error}); expected a JSON object.") from error
        except RecursionError as error:
            raise _too_deep() from error
        values = {member.name: member.value for member in members}
        if text.count("{") + text.count("[") > MAX_DEPTH and _is_deep(values):
            raise _too_deep()
        return cls(text, values, members)

    def changed(self, changes: Changes) -> bytes:
        """The body with some members changed, everything else byte for byte as it came."""
        start = _after_space(self.text, 0)
        edited = _edited_members(self.text, start, self._members, changes)
        end = self._members[-1].end if self._members else start + 1
        changed = f"{self.text[:start]}{edited}{self.text[end:]}"
        return b"".join(piece.encode() for piece in pieces(changed))

    def lists(self) -> list[list[object]]:
        """The lists among the object's values."""
        return [member.value for member in self._members if isinstance(member.value, list)]

    def text_of(self, name: str) -> str:
        """The text of a member's value as the caller wrote it; empty where there is none."""
        for member in reversed(self._members):
            if member.name == name:
                return self.text[member.value_start : member.end]
        return ""


def _too_deep() -> RecordError:
    return RecordError(f"body: nested deeper than {MAX_DEPTH} levels; expected fewer.")


def _is_deep(value: object) -> bool:
    """Whether containers are nested deeper than `MAX_DEPTH`; walks level by level."""
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else _items(parent))
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MAX_DIGITS else None


_DECODER = json.JSONDecoder(parse_int=_integer)


def _after_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _expect_end(text: str, end: int) -> None:
    rest = _after_space(text, end)
    if rest != len(text):
        raise ValueError(f"more text at character {rest}")


def _members_in_pieces(text: str, start: int) -> tuple[tuple[_Member, ...], int]:
    """What `_members_of` gives, with long strings read piece by piece."""
    short = shortened(text, _PIECE_CHARS) if len(text) > _LONG_CHARS else None
    if short is None:
        return _members_of(text, start)
    try:
        # The text begins as it did: no long string stands before the object.
        members, end = _members_of(short.text, start)
    except ValueError:
        return _members_of(text, start)  # which says where the text is wrong
    whole = short.position
    restored = (
        _Member(
            m.name, whole(m.start), whole(m.name_end), whole(m.value_start), whole(m.end),
            short.restored(m.value) if isinstance(m.value, (str, dict, list)) else m.value,
        )
        for m in members
    )  # fmt: skip
    return tuple(restored), whole(end)


def _members_of(text: str, start: int) -> tuple[tuple[_Member, ...], int]:
    """The members of the object that begins at `start`, and where it ends.

    Raises:
        ValueError: If the text is no JSON.
    """
    members: list[_Member] = []
    position = _after_space(text, start + 1)
    if text[position : position + 1] == "}":
        return (), position + 1
    while True:
        member = _member_at(text, position)
        members.append(member)
        position = _after_space(text, member.end)
        follows = text[position : position + 1]
        if follows == "}":
            return tuple(members), position + 1
        if follows != ",":
            raise ValueError(f"character {position}: expected ',' or '}}'")
        position = _after_space(text, position + 1)


def _member_at(text: str, start: int) -> _Member:
    if text[start : start + 1] != '"':
        raise ValueError(f"character {start}: expected a name in double quotes")
    name, name_end = _DECODER.raw_decode(text, start)
    colon = _after_space(text, name_end)
    if text[colon : colon + 1] != ":":
        raise ValueError(f"character {colon}: expected ':'")
    value_start = _after_space(text, colon + 1)
    if text[value_start : value_start + 1] == "[":
        value, end = _items_at(text, value_start)
    else:
        value, end = _DECODER.raw_decode(text, value_start)
    return _Member(name, start, name_end, value_start, end, value)


def _items_at(text: str, start: int) -> tuple[list[object], int]:
    """The list that begins at `start`, and where it ends.

    Item by item: one long step would hold the interpreter's lock, and with it all other requests.
    """
    if len(text) <= _LONG_CHARS:
        value, end = _DECODER.raw_decode(text, start)
        return value, end
    items: list[object] = []
    position = _after_space(text, start + 1)
    if text[position : position + 1] == "]":
        return items, position + 1
    while True:
        position = _add_numbers(items, text, position)
        item, end = _DECODER.raw_decode(text, position)
        items.append(item)
        position = _after_space(text, end)
        follows = text[position : position + 1]
        if follows == "]":
            return items, position + 1
        if follows != ",":
            raise ValueError(f"character {position}: expected ',' or ']'")
        position = _after_space(text, position + 1)


def _add_numbers(items: list[object], text: str, start: int) -> int:
    """Add a piece of a long run of numbers and words, each with a comma after it; gives its end."""
    match = _NUMBERS.match(text, start, start + _PIECE_CHARS)
    end = match.end() if match else start
    if end == start:
        return start
    try:
        items += _DECODER.decode(f"[{text[start:end].rstrip()[:-1]}]")
    except ValueError:
        return start  # one by one, to say where it is wrong
    return _after_space(text, end)


def _edited_members(text: str, start: int, members: tuple[_Member, ...], changes: Changes) -> str:
    """The object from its `{` to the end of its last member, changed."""
    dropped = _dropped_names(members, changes)
    rest = {name: value for name, value in changes.values.items() if name not in dropped}
    pieces: list[str] = []
    for index, member in enumerate(members):
        if member.name in dropped:
            continue
        name = changes.renamed.get(member.name, member.name)
        if pieces:
            pieces.append(text[members[index - 1].end : member.start])
        pieces.append(_edited(text, member, name, _inner(changes, member.name, name)))
        rest.pop(name, None)
    for name, value in rest.items():
        pieces.append(", " if pieces else "")
        pieces.append(f"{json.dumps(name)}: {json.dumps(value)}")
    opening = text[start : members[0].start] if members else text[start : start + 1]
    return opening + "".join(pieces)


@dataclass(frozen=True, slots=True)
class _Inner:
    """What happens to one member's value: a new value, and names to drop inside an object."""

    has_value: bool
    value: object
    dropped: tuple[str, ...]


def _inner(changes: Changes, asked_name: str, name: str) -> _Inner:
    prefix = f"{asked_name}."
    dropped = tuple(d.removeprefix(prefix) for d in changes.dropped if d.startswith(prefix))
    return _Inner(name in changes.values, changes.values.get(name), dropped)


def _dropped_names(members: tuple[_Member, ...], changes: Changes) -> set[str]:
    sent = {member.name for member in members}
    doubled = {old for old, new in changes.renamed.items() if new in sent and new != old}
    return doubled | set(changes.dropped)


def _edited(text: str, member: _Member, name: str, inner: _Inner) -> str:
    written = text[member.start : member.name_end] if name == member.name else json.dumps(name)
    head = written + text[member.name_end : member.value_start]
    merged = not inner.has_value or _merges(member.value, inner.value)
    if not merged:
        return head + json.dumps(inner.value)
    if isinstance(member.value, dict) and (inner.has_value or inner.dropped):
        values = inner.value if isinstance(inner.value, Mapping) else {}
        members, _ = _members_of(text, member.value_start)
        edited = _edited_members(text, member.value_start, members, Changes(values, inner.dropped))
        end = members[-1].end if members else member.value_start + 1
        return head + edited + text[end : member.end]
    return head + text[member.value_start : member.end]


def _merges(asked: object, value: object) -> bool:
    if not isinstance(asked, dict) or not isinstance(value, Mapping):
        return False
    return "type" not in value or value["type"] == asked.get("type")
