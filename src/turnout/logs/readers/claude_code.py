"""Claude Code's own sessions: `~/.claude/projects/**/*.jsonl`, one event a line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePath

from turnout.logs.formats import RawRow
from turnout.logs.readers.messages import NoTurn, Turn, Values, mapping
from turnout.logs.readers.sessions import (
    BRANCH,
    NOTE,
    READ_WITH_TURN,
    SUB_AGENT,
    WITHOUT_TEXT,
    KnownSessions,
    SessionTurn,
)
from turnout.protocols import Message, read_answer, read_request

SOURCE = "claude code"
_NOTES = {"summary", "file-history-snapshot", "system", "queue-operation", "progress", "attachment"}
# Names of a turn's message in logs that name a session and a type too: there it is text.
_OF_A_TURN = {
    "user_message", "usermessage", "prompt", "message", "input", "query", "question", "text",
    "content",
}  # fmt: skip
# What trackers of model calls have, which name a session and a type too.
_OF_A_CALL = {"input", "output", "traceid", "trace_id"}
_INTERRUPTED = "interruption"


def may_read(values: Values) -> bool:
    """Whether the row is an event of a session; newer versions write events of further types."""
    kind = values.get("type")
    if not isinstance(kind, str):
        return False
    if kind in ("user", "assistant"):
        return "sessionId" in values and isinstance(values.get("message"), dict)
    if kind in _NOTES:
        return bool({"sessionId", "leafUuid", "snapshot", "operation"} & values.keys())
    if "sessionId" not in values or _OF_A_CALL & {name.lower() for name in values}:
        return False
    said = {name.lower() for name, value in values.items() if isinstance(value, str)}
    return not _OF_A_TURN & said


def _queued_prompt(values: Values) -> object:
    """What the person wrote while the assistant was at work; None where the event is no such."""
    attached = mapping(values.get("attachment"))
    if attached.get("type") != "queued_command" or values.get("isSidechain"):
        return None
    return attached.get("prompt") if attached.get("commandMode", "prompt") == "prompt" else None


@dataclass(slots=True)
class _Turn(SessionTurn):
    """A turn, and the turn that it follows: messages that were edited share theirs.

    A slash command is none, and takes the answers that it caused.
    """

    is_command: bool = False
    number: int = 0
    parent: int | None = None
    event: str = ""
    has_text: bool = True


class Session:
    """The events of one file.

    Events name their parent. A turn follows the turn of its parent, so that a message which was
    edited, or taken back, lies beside the path from the first turn to the last one.

    A session that is resumed gets another id, and in old versions another file with a copy of all
    events: it stays one conversation.
    """

    def __init__(self, file: str, known: KnownSessions) -> None:
        self._known = known
        self._session_id: object = PurePath(file).stem
        self._is_named = False
        self._turns: list[_Turn] = []
        self._turn_of: dict[str, int] = {}  # event → the turn it belongs to

    def add(self, raw: RawRow) -> str | None:
        """Take an event; see `sessions.Session`."""
        values = raw.values
        if not self._is_named and values.get("sessionId"):
            self._session_id, self._is_named = values["sessionId"], True
        if (prompt := _queued_prompt(values)) is not None:
            message = {"role": "user", "content": prompt}
            return self._add_user(replace(raw, values={**values, "message": message}))
        if values.get("type") not in ("user", "assistant") or values.get("isMeta"):
            self._place(values)
            return NOTE
        if values.get("isSidechain"):
            return SUB_AGENT
        if values["type"] == "assistant":
            return self._add_answer(values)
        if values.get("isCompactSummary"):
            self._place(values)
            return NOTE
        return self._add_user(raw)

    def turns(self) -> Iterator[tuple[str, Turn | NoTurn]]:
        """The turns from the first to the last one; those beside that path are counted."""
        path: list[int] = []
        number = len(self._turns) - 1 if self._turns else None
        while number is not None:
            path.append(number)
            number = self._turns[number].parent
        said = [number for number in reversed(path) if not self._turns[number].is_command]
        index_of = {number: index for index, number in enumerate(said, start=1)}
        events = [self._turns[number].event for number in said]
        name = self._known.name(events, self._session_id) if said else None
        self._note_taken_back(set(said))
        for turn in self._turns:
            if turn.is_command:
                continue
            if turn.number not in index_of:
                yield turn.where, NoTurn(BRANCH)
            elif not turn.has_text:
                yield turn.where, NoTurn(WITHOUT_TEXT)
            else:
                yield turn.where, turn.row(name, index_of[turn.number], SOURCE)

    def _note_taken_back(self, on_path: set[int]) -> None:
        """Tell each turn on the path of those before it in its place."""
        before: dict[int | None, list[_Turn]] = {}
        for turn in self._turns:
            for other in before.get(turn.parent, ()) if turn.number in on_path else ():
                turn.note_taken_back(other)
            if not turn.is_command:
                before.setdefault(turn.parent, []).append(turn)

    def _add_user(self, raw: RawRow) -> str | None:
        values = raw.values
        (message,) = read_request({"messages": [values["message"]]}).messages or (Message("tool"),)
        parent = self._place(values)
        if _INTERRUPTED in message.harness and parent is not None:
            self._turns[parent].response_type = "cancelled"
        if "command" in message.harness and not message.is_human:
            self._begin(raw, message, parent, is_command=True)
            return NOTE
        if not message.is_human:
            return READ_WITH_TURN if message.role == "tool" else NOTE
        if values.get("parentUuid", "") is None:
            parent = None  # the first message, or another one in its place
        self._begin(raw, message, parent)
        return None

    def _begin(
        self, raw: RawRow, message: Message, parent: int | None, *, is_command: bool = False
    ) -> None:
        values, number = raw.values, len(self._turns)
        turn = _Turn(
            raw.where,
            message.text,
            values.get("timestamp"),
            bool(message.harness),
            is_command=is_command,
            number=number,
            parent=parent,
            event=str(values.get("uuid") or f"{self._session_id} {number}"),
            has_text=bool(message.text.strip()),
        )
        self._turns.append(turn)
        self._belongs(values, number)

    def _add_answer(self, values: Values) -> str:
        number = self._place(values)
        if number is None:
            return NOTE
        turn, message = self._turns[number], mapping(values["message"])
        answer = read_answer(message)
        if values.get("isApiErrorMessage"):
            turn.response_type = "failed"
            return READ_WITH_TURN
        turn.response_type = "success"
        turn.model = answer.model or turn.model
        turn.answer = answer.text or turn.answer
        turn.tools.update(answer.tools)
        turn.usage[str(message.get("id") or values.get("uuid"))] = answer.usage
        return READ_WITH_TURN

    def _place(self, values: Values) -> int | None:
        """The turn that an event belongs to: its parent's, else the last one."""
        last = len(self._turns) - 1 if self._turns else None
        # After a compaction the chain begins again; the event before it is named apart.
        parent = values.get("parentUuid") or values.get("logicalParentUuid")
        number = self._turn_of.get(parent, last) if isinstance(parent, str) else last
        if number is not None:
            self._belongs(values, number)
        return number

    def _belongs(self, values: Values, number: int) -> None:
        if isinstance(uuid := values.get("uuid"), str):
            self._turn_of[uuid] = number
