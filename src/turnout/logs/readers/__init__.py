"""Rows as products write them → one row a turn; one module a source; knows no file format.

A reader is a function from a row's values to its turns, or None where the row is not of its source.
To add one, write such a module and name it in `READERS`; `docs/readers.md` shows how.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain

from turnout.errors import RecordError
from turnout.logs.formats import RawRow, is_bare_message
from turnout.logs.readers import (
    app_insights,
    bedrock,
    chatgpt,
    claude,
    claude_code,
    codex,
    copilot_chat,
    datadog,
    journal,
    langfuse,
    langsmith,
    librechat,
    litellm,
    markdown_chats,
    message_list,
    open_webui,
    otel,
    request_log,
    span_rows,
    specstory,
)
from turnout.logs.readers.messages import NoTurn, Reader, Turn, Values, mapping, parsed, row_of
from turnout.logs.readers.parts import CallPart
from turnout.logs.readers.sessions import KnownSessions, Session, SessionReader, session_rows

# In the order they are tried: the closer a source is to others, the later.
READERS: Sequence[Reader] = (
    Reader("ChatGPT account export", ("mapping",), chatgpt.turns),
    Reader("Claude account export", ("chat_messages",), claude.turns),
    Reader("Open WebUI chat", ("chat",), open_webui.turns),
    Reader("LibreChat conversation", ("messages", "conversationId"), librechat.turns),
    Reader("OpenTelemetry GenAI spans", ("resourceSpans",), otel.turns, otel.NO_CALL),
    Reader("OpenTelemetry GenAI events", ("resourceLogs",), otel.turns, otel.NO_CALL),
    Reader("OpenTelemetry metrics", ("resourceMetrics",), otel.turns, otel.NO_CALL),
    Reader("OpenTelemetry GenAI spans", ("batches",), otel.turns, otel.NO_CALL),
    Reader(
        "OpenTelemetry GenAI spans", ("resource_spans",), otel.turns_in_snake_case, otel.NO_CALL
    ),
    Reader(
        "OpenTelemetry GenAI events", ("resource_logs",), otel.turns_in_snake_case, otel.NO_CALL
    ),
    Reader("Jaeger trace", ("traceID", "spans"), span_rows.turns_of_jaeger, otel.NO_CALL),
    Reader(
        "OpenTelemetry spans, one a row", ("context", "attributes"), span_rows.turns, otel.NO_CALL
    ),
    Reader("OpenTelemetry spans, one a row", ("context.span_id",), span_rows.turns, otel.NO_CALL),
    Reader("Application Insights span", ("customDimensions",), app_insights.turns, otel.NO_CALL),
    Reader("Application Insights span", ("Properties",), app_insights.turns, otel.NO_CALL),
    Reader("SpecStory session", ("markdown",), specstory.turns),
    Reader("Cursor or Aider chat", ("markdown",), markdown_chats.turns),
    Reader("Turnout journal", ("served_version",), journal.turns),
    Reader("Turnout journal", ("decision", "target", "router"), journal.turns_of_first_version),
    Reader("Langfuse observation", ("traceId", "type"), langfuse.turns),
    Reader("Langfuse observation", ("trace_id", "type"), langfuse.turns),
    Reader("Langfuse trace", ("observations",), langfuse.turns_of_trace, langfuse.NO_CALL),
    Reader("Langfuse trace", ("sessionId", "input", "output"), langfuse.turns_of_bare_trace),
    Reader("Langfuse event", ("type", "body"), langfuse.parts_of_event, langfuse.NO_CALL),
    Reader("Datadog LLM span", ("meta", "span_id"), datadog.turns),
    Reader("Datadog LLM span", ("attributes", "type"), datadog.turns_of_exported),
    Reader("Copilot chat session", ("requests", "responderUsername"), copilot_chat.turns),
    Reader("LangSmith run", ("run_type", "inputs"), langsmith.turns),
    Reader("Bedrock invocation log", ("schemaType", "input"), bedrock.turns),
    Reader("log of requests", ("request_body", "response_body"), request_log.turns),
    Reader("log of requests", ("request", "response"), request_log.turns),
    Reader("log of requests", ("inputs", "output", "op_name"), request_log.turns),
    Reader("LiteLLM spend log", ("messages", "response"), litellm.turns),
    Reader("log of requests", ("choices", "messages"), request_log.turns_of_completion),
    Reader("log of requests", ("choices", "input"), request_log.turns_of_completion),
    Reader("log of requests", ("input", "output"), request_log.turns_of_input),
    Reader("log of requests", ("RequestMessages", "ResponseMessages"), request_log.turns_of_input),
    Reader("OpenAI batch", ("custom_id", "body"), request_log.turns_of_batch),
    Reader("list of messages", ("messages",), message_list.turns),
    Reader("list of messages", ("conversation",), message_list.turns),
    Reader("list of messages", ("conversations",), message_list.turns),
    Reader(
        "list of messages",
        (),
        message_list.turns_of_other_lists,
        one_of=message_list.OTHER_LISTS,
    ),
)


# What a turn says itself, whatever the user's columns say of its whole row.
_OF_TURNS = ("turn_index", "user_message", "model", "timestamp", "assistant_message")

# The layout of rows that no reader takes.
TURN_A_ROW = "a turn a row"

# Under these names a page holds its rows, in answers of APIs and exports of databases.
_PAGES = {
    "data", "runs", "rows", "items", "results", "records", "documents", "logs", "entries", "hits",
    "value", "conversations", "chats", "messages", "turns", "sessions", "threads", "traces",
    "batch",
}  # fmt: skip
# Columns in which log services put an application's own row: CloudWatch, Elasticsearch, Google,
# Splunk, containers.
_FRAMES = {"message", "@message", "_source", "jsonPayload", "textPayload", "_raw", "log"}
# What says that an object is a row itself and no page.
_OF_ROW = re.compile(r"conversation|session|thread|chat|model|role|prompt|user|trace|^(uu)?id$")

# Sources of which a whole file, an event a row, is a conversation.
SESSION_READERS: Sequence[SessionReader] = (
    SessionReader("Claude Code session", claude_code.may_read, claude_code.Session),
    SessionReader("Codex session", codex.may_read, codex.Session),
)


KNOWN_SOURCES = list(
    dict.fromkeys(
        [reader.source for reader in READERS] + [reader.source for reader in SESSION_READERS]
    )
)


def rows_of_turns(
    raw_rows: Iterable[RawRow],
    file: str,
    chosen_in: Callable[[Values], Turn] = lambda _: {},
    layouts: Counter[str] | None = None,
    known: KnownSessions | None = None,
) -> Iterator[RawRow | CallPart]:
    """The turns of a file's rows, and parts of calls.

    Args:
        raw_rows: Of one file, in order.
        file: Its name.
        chosen_in: A row that is read here → fields that the user's columns give its turns.
        layouts: Layout → rows, added to.
        known: The sessions of the files before, added to.
    """
    known = KnownSessions() if known is None else known
    layouts = Counter() if layouts is None else layouts
    sessions: dict[str, Session] = {}
    for raw in chain.from_iterable(map(_unpaged, raw_rows)):
        reader = next((r for r in SESSION_READERS if r.may_read(raw.values)), None)
        if reader is None:
            yield from _turn_rows(raw, chosen_in, layouts)
            continue
        layouts[reader.source] += 1
        if reader.source not in sessions:
            sessions[reader.source] = reader.begin(file, known)
        if (reason := sessions[reader.source].add(raw)) is not None:
            yield RawRow(raw.where, {}, dropped_as=reason)
    for session in sessions.values():
        yield from session_rows(session)


def _unpaged(raw: RawRow) -> Iterator[RawRow]:
    """The rows of a page as APIs give them, `{"data": […], "meta": …}`; any other row itself.

    A session of the first Codex is a page too.
    """
    if raw.values.keys() == {"session", "items"} and isinstance(raw.values["items"], list):
        items = [raw.values["session"], *raw.values["items"]]
        raw = RawRow(raw.where, {"data": items}, mended=raw.mended)
    rows, name = _rows_of_page(raw.values)
    if rows is None:
        yield raw
        return
    for number, row in enumerate(rows, start=1):
        where = f"{raw.where}, {name} {number}"
        problem = None if isinstance(row, dict) else "not an object"
        yield RawRow(where, row if isinstance(row, dict) else {}, problem, raw.mended)


def _rows_of_page(values: Values) -> tuple[Sequence[object] | None, str]:
    """The rows of a page and the name that they stand under; None where it is a row itself."""
    for name in _page_names(tuple(values)):
        rows = values[name]
        if isinstance(rows, list) and not (rows and is_bare_message(rows[0])):
            return rows, name
    if len(values) > 1 and all(_is_conversation(*item) for item in values.items()):
        return [{"conversation_id": key, **_as_row(value)} for key, value in values.items()], "key"
    return None, ""


@lru_cache(maxsize=1_000)
def _page_names(columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that may hold the rows of a page."""
    return tuple(
        name
        for name in columns
        if name.lower() in _PAGES
        and not any(_OF_ROW.search(other.lower()) for other in columns if other != name)
    )


def _is_conversation(key: str, value: object) -> bool:
    """Whether a key is an id, and its value a list of messages or an object that holds one."""
    if not any(map(str.isdigit, key)):
        return False
    messages = mapping(value).get("messages", value)
    return isinstance(messages, list) and bool(messages) and is_bare_message(messages[0])


def _as_row(value: object) -> Values:
    return value if isinstance(value, Mapping) else {"messages": value}


def _turn_rows(
    raw: RawRow, chosen_in: Callable[[Values], Turn], layouts: Counter[str]
) -> Iterator[RawRow | CallPart]:
    """The turns of one row, and its parts of calls; the row itself where it is a turn already.

    A row that cannot be read stays as it is too.
    """
    for reader in _readers_of(tuple(raw.values)) if raw.problem is None else ():
        try:
            turns = reader.turns(raw.values)
        except RecordError as error:
            yield RawRow(raw.where, {}, problem=str(error).removesuffix("."))
            return
        if turns is not None:
            layouts[reader.source] += 1
            yield from _rows_of(raw, reader, turns, chosen_in(raw.values))
            return
    if (framed := _unframed(raw)) is not None:
        yield from _turn_rows(framed, chosen_in, layouts)
    elif "markdown" not in raw.values:  # a page that is no session lies in many folders
        layouts[TURN_A_ROW] += 1
        yield raw


def _unframed(raw: RawRow) -> RawRow | None:
    """A row that a log service has put into a column, with the columns beside it.

    None where no column holds an object that a reader takes.
    """
    for name in _FRAMES & raw.values.keys() if raw.problem is None else ():
        inner = parsed(raw.values[name])
        if isinstance(inner, Mapping) and any(map(_takes(inner), _readers_of(tuple(inner)))):
            beside = {key: value for key, value in raw.values.items() if key != name}
            return replace(raw, values={**beside, **inner})
    return None


def _takes(values: Values) -> Callable[[Reader], bool]:
    """Whether a reader makes anything of these values, be it an error."""

    def takes(reader: Reader) -> bool:
        try:
            return reader.turns(values) is not None
        except RecordError:
            return True

    return takes


@lru_cache(maxsize=1_000)
def _readers_of(columns: tuple[str, ...]) -> tuple[Reader, ...]:
    """The readers that may know a row with these columns: most rows of a log have the same."""
    return tuple(reader for reader in READERS if reader.may_read(columns))


def _rows_of(
    raw: RawRow, reader: Reader, turns: Sequence[Turn | CallPart | NoTurn] | NoTurn, chosen: Turn
) -> Iterator[RawRow | CallPart]:
    if isinstance(turns, NoTurn):
        yield RawRow(raw.where, turns.failed_call or {}, dropped_as=turns.reason)
    elif not turns:
        reason = reader.counted_as or f"a {reader.source} without a user message"
        yield RawRow(raw.where, {}, dropped_as=reason)
    else:
        for turn in turns:
            if isinstance(turn, CallPart):
                facts = {**chosen, **{k: v for k, v in turn.facts.items() if v is not None}}
                yield replace(turn, facts=facts, where=raw.where, mended=raw.mended)
            elif isinstance(turn, NoTurn):
                yield RawRow(raw.where, {}, dropped_as=turn.reason)
            else:
                own = {name: turn[name] for name in _OF_TURNS if turn.get(name) is not None}
                yield row_of(turn | chosen | own, raw.where, raw.mended)


def read_by_turns(columns: Sequence[str]) -> bool:
    """Whether rows with these columns are turns already, whatever their values are."""
    return not any(reader.may_read(columns) for reader in READERS)
