"""Maps a log's columns to the fields of a turn: by exact names, common names and paths."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from turnout.errors import SettingsError
from turnout.logs.columns import CALL_ID, camel_case, parsed, root_of, value_at
from turnout.logs.transcripts import TRANSCRIPT
from turnout.schema import REQUIRED_TURN_COLUMNS, TURNS

# What other products call our columns; the first one found is taken.
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "conversation_id": (
        "session_id", "thread_id", "chat_id", "conversation", "conversation_uuid", "session_uuid",
        "thread_uuid", "chat_uuid", "conv_id", "dialogue_id", "dialog_id", "topic_id",
    ),
    "turn_index": ("turn", "turn_number", "turn_no"),
    "user_message": (
        "prompt", "user_prompt", "message", "user_text", "query", "user_query", "question",
        "user_question", "user_input",
    ),
    "model": ("model_name", "model_id"),
    "timestamp": (
        "created_at", "time", "date", "start_time", "time_generated", "sent_at", "create_time",
        "created", "inserted_at", "date_created", "created_date", "created_on", "ts",
    ),
    "assistant_message": ("response", "answer", "completion"),
    "response_type": ("status",),
    "prompt_tokens": ("input_tokens", "tokens_in", "tokens_prompt", "message_tokens"),
    "completion_tokens": ("output_tokens", "tokens_out", "tokens_completion", "answer_tokens"),
    "cached_tokens": ("cache_read_input_tokens", "cached_input_tokens", "cache_read_tokens"),
    "cache_write_tokens": ("cache_creation_input_tokens", "cache_creation_tokens"),
    "duration_ms": ("latency_ms", "elapsed_ms"),
    "user_id": ("user",),
}  # fmt: skip
# Columns in which Application Insights and Log Analytics keep what an application says of itself;
# the columns beside them are of every application.
_OWN_FACTS = {"customdimensions", "custommeasurements", "properties"}
_MAX_DEPTH = 3
_MAX_SHAPES = 10_000
_NO_LETTERS = re.compile(r"\[[^\]]*\]|\([^)]*\)|[^a-z0-9]")


def plain_name(name: str) -> str:
    """A name in one spelling: `Turn Index`, `turnIndex` and `turn_index (x)` become the same."""
    return _NO_LETTERS.sub("", name.lower())


# What a row of a turn calls its message, without case and signs.
USER_MESSAGE_NAMES = frozenset(map(plain_name, ("user_message", *_SYNONYMS["user_message"])))


class ColumnNames:
    """Maps raw columns to canonical ones; rows may differ in the columns that they have.

    A column is a name, or a path into a column that holds objects: `customDimensions.prompt`.

    Args:
        chosen: Canonical → raw, as the user says; wins over every guess.
        carried: Columns that become the turns' segments.

    Attributes:
        ignored: Raw columns that nothing reads.
        by_time: Whether the log has times and no turn index: the order in time is then the index.
        carried_in_rows: The carried columns that a row had.
    """

    def __init__(self, chosen: Mapping[str, str], carried: Sequence[str] = ()) -> None:
        self._chosen = chosen
        self._carried = carried
        self._by_shape: dict[tuple[str, ...], dict[str, str]] = {}
        self._paths: dict[str, None] = {}
        self._read_in_rows: set[str] = set()
        self._read_beside: set[str] = set()
        self.ignored: set[str] = set()
        self.carried_in_rows: set[str] = set()
        self.by_time = False

    def missing(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """The required fields for which a log has no column.

        Args:
            rows: Its first rows.

        Raises:
            SettingsError: If the user names a field or column that does not exist.
        """
        columns = dict.fromkeys(column for row in rows for column in row)
        self._paths = dict.fromkeys(path for row in rows for path in paths_in(row))
        for field, column in self._chosen.items():
            known = column in columns or column in self._paths or field in self._read_in_rows
            if field not in TURNS.names or not known:
                raise SettingsError(
                    f"--map {field}={column}: expected FIELD=COLUMN with a field of "
                    f"{', '.join(TURNS.names)} and a column of "
                    f"{', '.join(sorted([*columns, *self._paths]))}."
                )
        mapped = self._mapped(columns)
        self.by_time = "turn_index" not in mapped and "timestamp" in mapped
        return [
            field
            for field in REQUIRED_TURN_COLUMNS
            if field not in mapped and not (field == "turn_index" and self.by_time)
        ]

    def of(self, columns: Collection[str]) -> dict[str, str]:
        """Canonical → raw column, for a row with these columns. Notes columns that are not read."""
        shape = tuple(columns)
        mapped = self._by_shape.get(shape)
        if mapped is None:
            mapped = self._mapped(columns)
            read = {*mapped.values(), *self._carried}
            roots = {root_of(column) for column in read - set(columns)}
            paths = {path for path in self._paths if root_of(path) in roots}
            read |= {CALL_ID, TRANSCRIPT, *self._read_beside}
            self.ignored |= (set(columns) - roots | paths) - read
            if len(self._by_shape) < _MAX_SHAPES:
                self._by_shape[shape] = mapped
        return mapped

    def chosen_in(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Field → value of the columns that the user chose, in a row that holds several turns."""
        chosen = {
            field: value
            for field, column in self._chosen.items()
            if (value := value_at(values, column)) is not None
        }
        self._read_in_rows |= chosen.keys()
        return chosen | self.segments_in(values)

    def segments_in(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The field `segments` of a row, where it has a column that is carried along.

        What a turns table carries already stays beside it.
        """
        before = parsed(values.get("segments")) if self._carried else None
        carried = dict(before) if isinstance(before, Mapping) else {}
        for column in self._carried:
            if (value := value_at(values, column)) is not None:
                carried[column] = value
        self.carried_in_rows |= carried.keys()
        return {"segments": carried} if carried else {}

    def note_read(self, columns: Collection[str]) -> None:
        """Note that columns are read that feed no field of a turn by themselves."""
        self._read_beside |= {*columns, *map(root_of, columns)}
        self.ignored -= self._read_beside

    @property
    def needs_rows(self) -> bool:
        """Whether some field is read from a path, or from several columns."""
        return bool(self._carried) or any(
            column not in shape
            for shape, mapped in self._by_shape.items()
            for column in mapped.values()
        )

    def _mapped(self, columns: Collection[str]) -> dict[str, str]:
        names = {plain_name(column): column for column in reversed(list(columns))}
        paths = [path for path in self._paths if root_of(path) in columns]
        own = _by_last_name(path for path in paths if plain_name(root_of(path)) in _OWN_FACTS)
        mapped: dict[str, str] = {}
        for field in TURNS.names:
            chosen = self._chosen.get(field)
            if chosen and (chosen in columns or chosen in self._paths):
                mapped[field] = chosen
            elif (column := _first(field, own, columns, names)) not in (None, *mapped.values()):
                mapped[field] = str(column)
        inner = _by_last_name(path for path in paths if root_of(path) not in mapped.values())
        for field in (*REQUIRED_TURN_COLUMNS, "timestamp"):
            if field not in mapped and (column := _first(field, inner, (), {})) is not None:
                mapped[field] = column
        return mapped


def _first(
    field: str,
    paths: Mapping[str, str],
    columns: Collection[str],
    by_plain_name: Mapping[str, str],
) -> str | None:
    """The first of a field's known names that the log has, in any spelling."""
    for name in (field, *_SYNONYMS.get(field, ())):
        plain = plain_name(name)
        if plain in paths:
            return paths[plain]
        exact = next((each for each in (name, camel_case(name)) if each in columns), None)
        if exact or plain in by_plain_name:
            return exact or by_plain_name[plain]
    return None


def _by_last_name(paths: Iterable[str]) -> dict[str, str]:
    paths_by_name: dict[str, str] = {}
    for path in paths:
        paths_by_name.setdefault(plain_name(path.rpartition(".")[2]), path)
    return paths_by_name


def paths_in(values: Mapping[str, Any], depth: int = 1) -> Iterator[str]:
    """Every path into the columns of a row that hold objects or JSON text."""
    for column, value in values.items():
        inner = parsed(value)
        if "." in column or not isinstance(inner, Mapping):
            continue
        for name in inner:
            yield f"{column}.{name}"
        if depth < _MAX_DEPTH:
            yield from (f"{column}.{path}" for path in paths_in(inner, depth + 1))
