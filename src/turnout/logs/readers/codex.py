"""Codex's own sessions: `~/.codex/sessions/**/rollout-*.jsonl`, one event a line.

Versions before September 2025 wrote the model's items without a frame around them, and no model.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from turnout.protocols import Message, Usage, read_request, split_harness
from turnout.protocols.parts import count, text

SOURCE = "codex"
_TYPES = {"session_meta", "response_item", "event_msg", "turn_context", "compacted"}
# What the items of old versions have beside their type.
_BARE_ITEMS = {
    "reasoning": {"summary", "encrypted_content"},
    "function_call": {"call_id"},
    "function_call_output": {"call_id"},
    "local_shell_call": {"call_id", "action"},
    "local_shell_call_output": {"call_id"},
}
_TURN_COLUMNS = {"conversation_id", "session_id", "thread_id", "response_id"}
_FRAME = {"timestamp", "type", "payload"}
_ENDED = {"turn_aborted": "cancelled", "error": "failed", "stream_error": "failed"}


def may_read(values: Values) -> bool:
    """Whether the row is an event of a session."""
    kind = values.get("type")
    if "payload" not in values:
        return _is_bare(values)
    if not isinstance(kind, str) or not isinstance(values["payload"], dict):
        return False
    # Newer versions write events of further types, and more around them.
    return kind in _TYPES or (values.keys() >= _FRAME and not _TURN_COLUMNS & values.keys())


def _is_bare(values: Values) -> bool:
    """Whether the row is an event as old versions wrote it."""
    if "record_type" in values or values.keys() >= {"id", "timestamp", "instructions"}:
        return not {"role", "content", "messages"} & values.keys()
    kind = values.get("type")
    if not isinstance(kind, str) or _TURN_COLUMNS & values.keys():
        return False
    if kind == "message":
        parts = values.get("content")
        return "role" in values and isinstance(parts, list) and any(map(_is_item_part, parts))
    return kind in _BARE_ITEMS and bool(_BARE_ITEMS[kind] & values.keys())


def _is_item_part(part: object) -> bool:
    return mapping(part).get("type") in ("input_text", "output_text")


class Session:
    """The events of one file: events of the screen mirror the model's items, which are read."""

    def __init__(self, file: str, _: KnownSessions) -> None:
        self._id: object = PurePath(file).stem
        self._model: object = None
        self._total: object = None
        self._time: object = None
        self._is_helper = False
        self._turns: list[SessionTurn] = []
        self._taken_back: list[SessionTurn] = []
        # The first turn that was taken back since a turn began.
        self._replaced: SessionTurn | None = None
        # What the screen showed: the turns of a file without the model's items.
        self._shown: list[SessionTurn] = []
        # Answer, its end and the number of calls before the last message of the assistant.
        self._before: tuple[str | None, str | None, int] = (None, None, 0)

    def add(self, raw: RawRow) -> str | None:
        """Take an event; see `sessions.Session`."""
        if "payload" not in raw.values:
            return self._add_bare(raw)
        payload = mapping(raw.values["payload"])
        match raw.values["type"]:
            case "session_meta":
                self._id = payload.get("id") or self._id
                self._is_helper |= isinstance(payload.get("source"), dict)
            case "turn_context":
                self._model = payload.get("model") or self._model
            case "response_item":
                return self._add_item(payload, raw)
            case "event_msg":
                return self._add_event(payload, raw)
            case "compacted":
                self._take_summary_back(payload)
        return NOTE

    def _add_bare(self, raw: RawRow) -> str | None:
        values = raw.values
        if "type" in values:
            return self._add_item(values, raw)
        if "record_type" not in values:
            self._id = values["id"] or self._id
            self._time = values["timestamp"]
        return NOTE

    def turns(self) -> Iterator[tuple[str, Turn | NoTurn]]:
        """The turns that were not taken back, in order."""
        for turn in self._taken_back:
            yield turn.where, NoTurn(BRANCH)
        has_items = bool(self._turns or self._taken_back)
        for turn in self._shown if has_items else ():
            yield turn.where, NoTurn(READ_WITH_TURN)
        for index, turn in enumerate(self._turns if has_items else self._shown, start=1):
            if self._is_helper:
                yield turn.where, NoTurn(SUB_AGENT)
            elif not turn.text.strip():
                yield turn.where, NoTurn(WITHOUT_TEXT)
            else:
                yield turn.where, turn.row(self._id, index, SOURCE)

    def _add_item(self, item: Values, raw: RawRow) -> str | None:
        (message,) = read_request({"input": [item]}).messages or (Message("system"),)
        if message.is_human:
            time = raw.values.get("timestamp") or self._time
            turn = SessionTurn(raw.where, message.text, time, bool(message.harness), self._model)
            if self._replaced is not None:
                turn.note_taken_back(self._replaced)
            self._replaced = None
            self._turns.append(turn)
            return None
        if not self._turns or message.role in ("user", "system"):
            return NOTE
        turn = self._turns[-1]
        if message.role == "assistant":
            if message.text:
                self._before = (turn.answer, turn.response_type, len(turn.usage))
            turn.model = self._model or turn.model
            turn.answer = message.text or turn.answer
            turn.tools.update(message.tools)
            turn.response_type = "success"
        return READ_WITH_TURN

    def _take_summary_back(self, payload: Values) -> None:
        """What was taken for an answer was the summary that the history is replaced by."""
        turn, summary = self._turns[-1] if self._turns else None, text(payload.get("message"))
        if turn is None or not turn.answer or not (summary or "").endswith(turn.answer):
            return
        turn.answer, turn.response_type, n_calls = self._before
        for call in list(turn.usage)[n_calls:]:
            del turn.usage[call]

    def _add_event(self, event: Values, raw: RawRow) -> str | None:
        kind, turns = text(event.get("type")), self._turns or self._shown
        if kind == "user_message":
            return self._add_shown(event, raw)
        if kind == "thread_rolled_back":
            first = max(0, len(self._turns) - (count(event, "num_turns") or 0))
            self._replaced = next(iter(self._turns[first:]), self._replaced)
            self._taken_back += self._turns[first:]
            del self._turns[first:]
        elif kind == "token_count" and turns:
            self._add_usage(turns[-1], mapping(event.get("info")))
        elif kind in _ENDED and turns:
            turns[-1].response_type = _ENDED[kind]
        elif kind == "task_complete" and event.get("error") and turns:
            turns[-1].response_type = "failed"
        elif kind == "agent_message" and self._shown:
            self._shown[-1].answer = text(event.get("message"))
            self._shown[-1].model, self._shown[-1].response_type = self._model, "success"
        return READ_WITH_TURN

    def _add_shown(self, event: Values, raw: RawRow) -> str | None:
        """Keep a message of the screen that no item of the model has said before."""
        words = split_harness(text(event.get("message")) or "")
        if self._turns and self._turns[-1].text.strip() == words.human.strip():
            return READ_WITH_TURN
        if not words.human.strip():
            return NOTE
        time = raw.values.get("timestamp")
        self._shown.append(
            SessionTurn(raw.where, words.human, time, bool(words.harness), self._model)
        )
        return None

    def _add_usage(self, turn: SessionTurn, info: Values) -> None:
        used, total = mapping(info.get("last_token_usage")), info.get("total_token_usage")
        usage = Usage(
            count(used, "input_tokens"),
            count(used, "output_tokens"),
            count(used, "reasoning_output_tokens"),
            count(used, "cached_input_tokens"),
            count(used, "cache_write_input_tokens"),
        )
        calls = turn.usage
        # A count is logged again with the limits; then the total is the same as before.
        is_repeated = total == self._total if total else usage in calls.values()
        self._total = total or self._total
        if used and not is_repeated:
            calls[str(len(calls))] = usage
