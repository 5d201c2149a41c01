"""Fills table, columns and sizes into the shipped Kusto queries, or into edited copies of them.

Every query declares what may be set as `let` lines at its top, and names each column once.
"""

from __future__ import annotations

import datetime as dt
import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from turnout.errors import SettingsError
from turnout.logs.columns import camel_case

FOLDERS = ("production", "exploration")
OWN = "own"
SUFFIX = ".kql"
DEFAULT_DAYS = 90
_PLAIN_NAME = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Query:
    """A query.

    Attributes:
        name: The file's name without its ending; the path of one's own.
        folder: `production`, `exploration` or `OWN`.
        text: As shipped: valid KQL for the table `ConversationTurns`.
    """

    name: str
    folder: str
    text: str

    @property
    def purpose(self) -> str:
        """The first sentence of its comment."""
        comment = " ".join(
            line.removeprefix("//").strip()
            for line in self.text.split("//\n")[0].splitlines()
            if line.startswith("//")
        )
        return comment.split(". ")[0].rstrip(".") + "."


@dataclass(frozen=True, slots=True)
class QueryParameters:
    """What a query reads; None leaves what stands in the query.

    Attributes:
        table: Your table.
        days: How far back from `until`.
        until: The moment before which rows are read; the moment the query runs where None.
        seed: Decides which conversations are sampled.
        per_bucket: Conversations of each turn-count bucket, where a query has them.
        percent: How many of a hundred conversations are kept, where a query samples so.
    """

    table: str | None = None
    days: int | None = None
    until: dt.datetime | None = None
    seed: str | None = None
    per_bucket: int | None = None
    percent: int | None = None

    def settings(self) -> dict[str, str]:
        """`let` name → KQL value, of what is set."""
        given: dict[str, str | None] = {
            "startTime": f"ago({self.days}d)" if self.days else None,
            "seed": None if self.seed is None else json.dumps(self.seed),
            "perBucket": str(self.per_bucket) if self.per_bucket else None,
            "sampledPercent": str(self.percent) if self.percent else None,
        }
        if self.until is not None:
            start = self.until - dt.timedelta(days=self.days or DEFAULT_DAYS)
            given |= {"startTime": _moment(start), "endTime": _moment(self.until)}
        return {name: value for name, value in given.items() if value is not None}


def queries() -> dict[str, Query]:
    """Every shipped query by name."""
    shipped = {}
    for folder in FOLDERS:
        for file in resources.files("turnout.logs.kusto").joinpath("queries", folder).iterdir():
            name = file.name.removesuffix(".kql")
            shipped[name] = Query(name, folder, file.read_text(encoding="utf-8"))
    return dict(sorted(shipped.items(), key=lambda item: (item[1].folder != "production", item[0])))


def query(name: str) -> Query:
    """A shipped query by its name, or one's own by its path, which ends in `.kql`.

    Raises:
        SettingsError: If there is no such query.
    """
    if name.endswith(SUFFIX):
        return Query(name, OWN, _own_text(Path(name)))
    known = queries()
    if name not in known:
        raise SettingsError(f"query: found {name!r}; {_expected(name, list(known))}")
    return known[name]


def _own_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"--query {path}: cannot be read ({error}); expected a text file in UTF-8, such as "
            "`turnout kql` prints."
        ) from error
    # More is added after it.
    return text.rstrip().rstrip(";") + "\n"


def query_text(
    name: str,
    *,
    table: str | None = None,
    columns: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
) -> str:
    """A query of the name, ready to run; see `query` and `filled`.

    Raises:
        SettingsError: If there is no such query, column or setting.
    """
    return filled(query(name), table=table, columns=columns, settings=settings)


def filled(
    query: Query,
    *,
    table: str | None = None,
    columns: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
) -> str:
    """A query's text, ready to run.

    Args:
        query: Which.
        table: Your table.
        columns: The query's column → yours, where they differ, or a path into one;
            `user_message` is `userMessage`.
        settings: `let` name → KQL value: `startTime`, `seed`, `perBucket`, …; see
            `QueryParameters.settings`.

    Raises:
        SettingsError: If it has no such column or setting.
    """
    name, text = query.name, query.text
    if table is not None:
        text = _replaced(
            text, r"^(let Source = ).*(;)$", _identifier(table), f"{name}: --table", ["let Source"]
        )
    for column, own in (columns or {}).items():
        text = _replaced(
            text,
            rf"^(        {re.escape(camel_case(column))} = to\w+\().*(\),?)$",
            _path(own),
            f"{name}: column {column!r}",
            re.findall(r"^        (\w+) = to\w+\(.*\),?$", text, re.MULTILINE),
        )
    for setting, value in (settings or {}).items():
        text = _replaced(
            text,
            rf"^(let {re.escape(setting)} = ).*(;)$",
            value,
            f"{name}: setting {setting!r}",
            re.findall(r"^let ([a-z]\w*) = [^|{]*;$", text, re.MULTILINE),
        )
    return text


def _replaced(text: str, pattern: str, value: str, what: str, known: list[str]) -> str:
    changed, count = re.subn(
        pattern, lambda match: match[1] + value + match[2], text, flags=re.MULTILINE
    )
    if not count:
        raise SettingsError(f"{what} is not in this query; {_expected(what, known)}")
    return changed


def _expected(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"expected one of {', '.join(known)}.{hint}"


def _moment(time: dt.datetime) -> str:
    """A time as KQL writes it; one without a zone is UTC."""
    utc = time.astimezone(dt.UTC) if time.tzinfo else time
    return f"datetime({utc:%Y-%m-%dT%H:%M:%S}Z)"


def _path(name: str) -> str:
    """A column, or a path into one that holds JSON: `customDimensions.prompt`."""
    root, *inner = name.split(".")
    if not inner or not all(_PLAIN_NAME.fullmatch(part) for part in (root, *inner)):
        return _identifier(name)
    return f"todynamic({root}).{'.'.join(inner)}"


def _identifier(name: str) -> str:
    """A table or column name as KQL writes it."""
    if _PLAIN_NAME.fullmatch(name):
        return name
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"['{escaped}']"
