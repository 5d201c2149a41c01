"""Joins the rows of tables with a message a row into turns, in the order in which they were said.

The engine sorts the messages on disk, so that one turn is held in memory at a time.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path, PurePath
from typing import Any

import ibis
import pyarrow as pa

from turnout.engine import batches, materialized, read_parquet
from turnout.logs.columns import clean_text, conversation_id_of, flaws, value_at
from turnout.logs.formats import RawRow
from turnout.logs.moments import moment, number_of
from turnout.logs.readers.branches import Node, beside, path_to, regenerated
from turnout.logs.readers.message_rows import MessageColumns, attachments_in
from turnout.logs.readers.messages import (
    HARNESS,
    HARNESS_ALONE,
    HELPER_CALL,
    LoggedMessage,
    known_role,
    message_of,
    row_of,
    without_thinking,
)
from turnout.logs.readers.sessions import WITHOUT_TEXT
from turnout.logs.row_writer import POSITION, RowCounts, RowWriter
from turnout.protocols.kinds import helper_by_wording
from turnout.schema import TIMESTAMP

READ_WITH_TURN = "a message read with its turn"
JOINED = "a message of a person joined to the one right before it"
NOT_ASKED = "an answer before any message of a person"
OF_SYSTEM = "a system message"
NO_ROLE = "a message without a role"
UNKNOWN_ROLE = "a message of an unknown role"
TWICE = "a message that is in the log twice"
EMPTY_MESSAGE = "empty user message"
SAME_TIME = "messages of one time (the person's first, else in the order of the log)"
WITHOUT_TIME = "messages without a time (after the one before them in the log)"

_TABLE = pa.schema(
    [
        pa.field("conversation_id", pa.string(), nullable=False),
        pa.field("role", pa.string()),  # as in `messages.LoggedMessage`; null where it is unknown
        pa.field("time", TIMESTAMP),
        pa.field("rank", pa.float64()),  # the log's own number
        pa.field("serial", pa.int64()),  # the message's id, where it is a whole number
        pa.field("name", pa.string()),  # the message's id
        pa.field("parent", pa.string()),  # the id of the message before it
        pa.field("model", pa.string()),
        pa.field("has_words", pa.bool_(), nullable=False),
        pa.field("file", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("rest", pa.string(), nullable=False),  # what else it says, as JSON
        pa.field(POSITION, pa.int64(), nullable=False),
    ]
)
_ADDED_UP = (
    "prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens",
    "cache_write_tokens", "duration_ms",
)  # fmt: skip
# What a person's message may say of its turn; the rest is the answer's to say.
_OF_PERSON = ("user_id", "mode", "segments", "requested_model")
_ORDER = ("conversation_id", "by_rank", "at", "tie", "place")
_NOT_FACTS = {"conversation_id", "turn_index", "user_message", "assistant_message", "timestamp"}
_MAX_SERIAL = 2**63
_OF_ROOT = set("0-48")
_BESIDE = "a message on another branch"
_DIGEST_CHARS = 8
_MAX_NAMED_ROLES, _MAX_ROLE_CHARS = 5, 30


class MessageTable(RowWriter):
    """Messages, of all files of a log.

    Args:
        path: A new file.
        counts: Added to where a row says nothing of a turn.

    Attributes:
        has_parents: Whether a message names the one before it.
    """

    def __init__(self, path: Path, counts: RowCounts) -> None:
        super().__init__(path, _TABLE)
        self._counts = counts
        self._roles: set[str] = set()
        self._files: list[Counter[int]] = []
        self._before: tuple[str, Any] = ("", None)
        self._conversation = ""
        self.has_parents = False

    def begin_file(self, name: str) -> None:
        """Note that the messages of another file come, which names those that no column names."""
        path_digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
        self._conversation = f"{PurePath(name).stem}-{path_digest[:_DIGEST_CHARS]}"
        self._files.append(Counter())
        self._before = ("", None)

    @property
    def backward_files(self) -> list[int]:
        """The files whose times fall: the newest message comes first in them."""
        return [n for n, steps in enumerate(self._files) if steps[-1] > steps[1]]

    def add(
        self, raw: RawRow, columns: MessageColumns, mapped: Mapping[str, str], facts: dict[str, Any]
    ) -> None:
        """Write one message.

        Args:
            raw: The row.
            columns: What its columns say.
            mapped: Field of a turn → the row's column.
            facts: Fields of the message's turn that are known beside them.

        Raises:
            UnreadableRowError: If the row does not name its conversation.
        """
        values = raw.values
        named_in = mapped.get("conversation_id")
        conversation = (
            conversation_id_of(value_at(values, named_in)) if named_in else self._conversation
        )
        said, content = columns.message_in(values)
        role = known_role(said)
        if role is None:
            self._counts.dropped[self._unknown_role(said)] += 1
            return
        attached = attachments_in(values.get(columns.attachments or ""))
        message = message_of(role, [content, *attached])
        own = {"model": columns.model_in(values)}
        own |= {name: value_at(values, column) for name, column in mapped.items()}
        rest = {
            "facts": facts
            | {k: v for k, v in own.items() if k not in _NOT_FACTS and v is not None},
            "harness": message.harness,
            "attached": message.attached,
            "mended": sorted({*raw.mended, *flaws(message.text)}),
            "where": raw.where,
        }
        time = moment(own.get("timestamp"))
        self._note_direction(conversation, time)
        row: dict[str, Any] = {
            "conversation_id": conversation,
            "role": role,
            "time": time,
            "rank": number_of(values.get(columns.order or "")),
            "serial": _serial(values.get(columns.name or "")),
            "name": _id(values.get(columns.name or "")),
            "parent": _id(values.get(columns.parent or "")),
            "model": _id(own.get("model")),
            "has_words": bool(message.text.strip() or message.attached),
            "file": len(self._files) - 1,
            "text": clean_text(message.text),
            "rest": json.dumps(rest, default=str),
        }
        self.has_parents |= row["parent"] is not None
        self.write(row, len(message.text) + len(row["rest"]))

    def _unknown_role(self, said: object) -> str:
        """How a row of no known role is counted: by the role's name, for the first few."""
        if said is None or said == "":
            return NO_ROLE
        name = str(said)
        if len(name) <= _MAX_ROLE_CHARS and len(self._roles) < _MAX_NAMED_ROLES:
            self._roles.add(name)
        return f"{UNKNOWN_ROLE}: {name}" if name in self._roles else UNKNOWN_ROLE

    def _note_direction(self, conversation: str, time: Any) -> None:  # noqa: ANN401 (a time or none)
        before, time_before = self._before
        if before == conversation and time and time_before and time != time_before:
            self._files[-1][1 if time > time_before else -1] += 1
        self._before = (conversation, time)


def _id(value: object) -> str | None:
    """An id as text; None where it is none, or a root's: `00000000-0000-4000-8000-000000000000`."""
    text = "" if value is None else (clean_text(value) or "").strip()
    return None if set(text) <= _OF_ROOT else text


def _serial(value: object) -> int | None:
    number = number_of(value)
    if number is None or not number.is_integer() or abs(number) >= _MAX_SERIAL:
        return None
    return int(str(value)) if isinstance(value, str) and value.isdecimal() else int(number)


def turns_of_table(
    backend: ibis.BaseBackend, table: MessageTable, counts: RowCounts
) -> Iterator[RawRow]:
    """The turns of every conversation; messages that begin none are counted.

    A conversation's messages are in the order of the log's own numbers where each has one, else of
    their times.

    Args:
        backend: Sorts the messages.
        table: The messages, all written.
        counts: Added to.
    """
    keys = _ordered(backend, table, counts)
    branches = _branches(backend, keys) if table.has_parents else {}
    ordered = read_parquet(backend, table.path).select(POSITION, "text", "rest")
    ordered = ordered.join(keys, POSITION)
    for conversation, messages in _by_conversation(backend, ordered):
        turns = _Turns(conversation, counts)
        for message in messages:
            fate = branches.get(message[POSITION])
            if isinstance(fate, str):
                counts.dropped[fate] += 1
            else:
                yield from turns.add(message, fate and fate[0])
        yield from turns.ended()


def _by_conversation(
    backend: ibis.BaseBackend, table: ibis.Table
) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
    rows = (row for batch in batches(backend, table, _ORDER) for row in batch.to_pylist())
    return groupby(rows, key=itemgetter("conversation_id"))


def _branches(backend: ibis.BaseBackend, keys: ibis.Table) -> dict[int, str | tuple[object]]:
    """What becomes of the messages of conversations that are trees, where it is not a turn alone.

    Returns:
        Position → how a message beside the branch that the person ended on is counted; or, in a
        tuple, the model whose answer this one was made again of.
    """
    return {
        position: fate
        for _, messages in _by_conversation(backend, keys)
        for position, fate in fates_of_messages(list(messages)).items()
    }


def fates_of_messages(rows: Sequence[Mapping[str, Any]]) -> dict[int, str | tuple[object]]:
    """The same of one conversation's messages, in order; empty where they are no tree."""
    nodes = _nodes(rows)
    if nodes is None:
        return {}
    path = path_to(nodes, rows[-1]["name"])
    on_path = set(path)
    again, reasons = regenerated(nodes, path), beside(nodes, on_path)
    fates: dict[int, str | tuple[object]] = {}
    for row in rows:
        name = row["name"]
        if name in again:
            fates[row[POSITION]] = (again[name],)
        elif name in nodes and name not in on_path:
            fates[row[POSITION]] = reasons.get(name, _BESIDE)
    return fates


def _nodes(rows: Sequence[Mapping[str, Any]]) -> dict[str, Node] | None:
    """The messages of a conversation as a tree; None where they are none, and time orders them.

    They are one where each has an id of its own, and persons' messages name the one before them;
    else an answer's parent is only the message that it replies to.
    """
    names = [row["name"] for row in rows]
    if None in names or len(set(names)) < len(names):
        return None
    known = set(names)
    later = [row for row in rows[1:] if row["role"] == "user"]
    linked = [row for row in later if row["parent"] in known]
    answers = [row for row in rows[1:] if row["role"] != "user"]
    if (later and not linked) or any(row["parent"] not in known for row in answers):
        return None
    nodes: dict[str, Node] = {}
    for number, row in enumerate(rows):
        # Of a message that is not in the log the one before it in time takes the place.
        before = names[number - 1] if number and row["parent"] is not None else None
        parent = row["parent"] if row["parent"] in known else before
        words = "words" if row["has_words"] else ""
        message = LoggedMessage(row["role"], words, row["model"])
        nodes[row["name"]] = Node(parent, message, float(number))
    return nodes


def _ordered(backend: ibis.BaseBackend, table: MessageTable, counts: RowCounts) -> ibis.Table:
    """The messages without their texts, each once, with the columns that order them."""
    rows = read_parquet(backend, table.path)
    backward = rows.file.isin(table.backward_files) if table.backward_files else ibis.literal(False)
    slim = rows.mutate(
        place=ibis.ifelse(backward, -rows[POSITION], rows[POSITION]),
        digest=ibis.coalesce(rows.text, "").hash(),
    )
    slim = slim.drop("text", "rest")
    in_log = ibis.window(group_by="conversation_id", order_by="place", rows=(None, 0))
    whole = ibis.window(group_by="conversation_id")
    timed = ibis.ifelse(slim.time.isnull(), ibis.null("int64"), slim.place)
    n_ranks = slim["rank"].nunique().over(whole)
    has_ranks = (slim["rank"].isnull().sum().over(whole) == 0) & (n_ranks > 1)
    slim = slim.mutate(
        at=ibis.coalesce(slim.time, slim.time.argmax(timed).over(in_log)),
        by_rank=ibis.ifelse(has_ranks, slim["rank"], ibis.null("float64")),
    )
    slim = materialized(backend, slim)
    equal = ibis.window(
        group_by=("conversation_id", "role", "time", "rank", "serial", "digest"), order_by="place"
    )
    is_sure = slim.time.notnull() | slim["rank"].notnull() | slim.serial.notnull()
    again = is_sure & (ibis.row_number().over(equal) > 0)
    slim = materialized(backend, slim.mutate(again=again))
    once = slim.filter(~slim.again)
    tied = ibis.window(group_by=("conversation_id", "by_rank", "at"))
    n_persons = (once.role == "user").cast("int64").sum().over(tied)
    n_tied = once.count().over(tied)
    n_serials = once.serial.nunique().over(tied)
    speaks = ibis.cases((once.role == "other", 0), (once.role == "user", 1), else_=2)
    tie = ibis.cases((n_serials == n_tied, once.serial), (n_persons <= 1, speaks), else_=0)
    once = once.mutate(tie=tie, guessed=(n_tied > 1) & (n_serials < n_tied))
    once = materialized(backend, once)
    sums = once.agg(
        guessed=(once.guessed & once.time.notnull()).sum(),
        untimed=(once.guessed & once.time.isnull() & once.by_rank.isnull()).sum(),
    )
    (counted,) = backend.to_pyarrow(sums).to_pylist()
    n_again = int(backend.to_pyarrow(slim.filter(slim.again).count()).as_py())
    counts.mended.update(
        +Counter({SAME_TIME: counted["guessed"] or 0, WITHOUT_TIME: counted["untimed"] or 0})
    )
    counts.dropped.update(+Counter({TWICE: n_again}))
    return once


class _Turns:
    """The turns of one conversation, as its messages come in order."""

    def __init__(self, conversation: str, counts: RowCounts) -> None:
        self._conversation = conversation
        self._counts = counts
        self._index = 0
        self._turn: _Turn | None = None

    def add(self, message: Mapping[str, Any], regenerated_from: object = None) -> Iterator[RawRow]:
        """Take the next message; the turn before it where this begins another."""
        rest = json.loads(message["rest"])
        turn, dropped = self._turn, self._counts.dropped
        if message["role"] == "user":
            if not message["text"].strip() and not rest["attached"]:
                dropped[HARNESS_ALONE if rest["harness"] else EMPTY_MESSAGE] += 1
            elif turn is None or turn.is_answered:
                yield from self.ended()
                self._index += 1
                self._turn = _Turn(message, rest)
            else:
                turn.add_words(message["text"], rest)
                dropped[JOINED] += 1
        elif message["role"] == "other":
            dropped[OF_SYSTEM] += 1
        elif turn is None:
            dropped[NOT_ASKED] += 1
        else:
            if regenerated_from is not None:
                rest["facts"]["regenerated_from"] = regenerated_from
            turn.add_answer(message, rest)
            dropped[READ_WITH_TURN] += 1

    def ended(self) -> Iterator[RawRow]:
        """The turn that is complete, if there is one."""
        if self._turn is not None:
            yield self._turn.row(self._conversation, self._index)


class _Turn:
    """A turn, put together of its messages."""

    def __init__(self, message: Mapping[str, Any], rest: dict[str, Any]) -> None:
        self._words = [message["text"]] if message["text"].strip() else []
        self._time = message["time"]
        self._where = rest["where"]
        self._harness = rest["harness"]
        self._mended = set(rest["mended"])
        self._of_person: dict[str, Any] = rest["facts"]
        self._facts: dict[str, Any] = {}
        self._added_up = Counter[str]()
        self._answer: str | None = None
        self.is_answered = False

    def add_words(self, text: str, rest: dict[str, Any]) -> None:
        if text.strip():
            self._words.append(text)
        self._harness |= rest["harness"]
        self._mended.update(rest["mended"])

    def add_answer(self, message: Mapping[str, Any], rest: dict[str, Any]) -> None:
        self.is_answered = True
        self._mended.update(rest["mended"])
        if message["role"] != "assistant":
            return
        for name, value in rest["facts"].items():
            number = number_of(value) if name in _ADDED_UP else None
            if number is not None:
                self._added_up[name] += int(number)
            elif name not in _ADDED_UP:
                self._facts[name] = value
        self._answer = without_thinking(message["text"]) or self._answer

    def row(self, conversation: str, index: int) -> RawRow:
        text = "\n\n".join(self._words)
        if not text:
            return RawRow(self._where, {}, dropped_as=WITHOUT_TEXT)
        if (helper := helper_by_wording(text)) is not None:
            return RawRow(self._where, {}, dropped_as=f"{HELPER_CALL}: {helper}")
        of_person = {name: self._of_person.get(name) for name in _OF_PERSON}
        turn = self._of_person | self._facts | dict(self._added_up)
        turn |= {name: value for name, value in of_person.items() if value is not None}
        turn |= {
            "conversation_id": conversation,
            "turn_index": index,
            "user_message": text,
            "assistant_message": self._answer,
            "timestamp": self._time,
            HARNESS: self._harness,
        }
        if "response_type" not in self._facts:
            turn["response_type"] = None
        return row_of(turn, self._where, tuple(sorted(self._mended)))
