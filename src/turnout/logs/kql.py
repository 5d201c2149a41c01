"""The shipped Kusto queries, with the user's table and sizes set; runs none of them.

Every query declares what may be set as `let` lines at its top, and names each column once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from turnout.errors import SettingsError

FOLDERS = ("production", "exploration")
_PLAIN_NAME = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Query:
    """A shipped query.

    Attributes:
        name: The file's name without its ending.
        folder: `production` or `exploration`.
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


def queries() -> dict[str, Query]:
    """Every shipped query by name."""
    found = {}
    for folder in FOLDERS:
        for file in resources.files("turnout.logs").joinpath("queries", folder).iterdir():
            name = file.name.removesuffix(".kql")
            found[name] = Query(name, folder, file.read_text(encoding="utf-8"))
    return dict(sorted(found.items(), key=lambda item: (item[1].folder != "production", item[0])))


def query_text(
    name: str,
    *,
    table: str | None = None,
    columns: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
) -> str:
    """A query, ready to run.

    Args:
        name: Which.
        table: Your table.
        columns: The query's column → yours, where they differ.
        settings: `let` name → KQL value: `startTime`, `seed`, `perBucket`, …

    Raises:
        SettingsError: If there is no such query, column or setting.
    """
    known = queries()
    if name not in known:
        raise SettingsError(f"query: found {name!r}; {_expected(name, list(known))}")
    text = known[name].text
    if table is not None:
        text = text.replace(
            "let Source = ConversationTurns;", f"let Source = {_identifier(table)};"
        )
    for column, own in (columns or {}).items():
        text = _replaced(
            text,
            rf"^(        {re.escape(column)} = \w+\()\w+(\),?)$",
            _identifier(own),
            f"{name}: column {column!r}",
            re.findall(r"^        (\w+) = \w+\(\w+\),?$", text, re.MULTILINE),
        )
    for setting, value in (settings or {}).items():
        text = _replaced(
            text,
            rf"^(let {re.escape(setting)} = ).*(;)$",
            value,
            f"{name}: setting {setting!r}",
            re.findall(r"^let ([a-z]\w*) = [^|]*;$", text, re.MULTILINE),
        )
    return text


def _replaced(text: str, pattern: str, value: str, what: str, known: list[str]) -> str:
    changed, count = re.subn(
        pattern, lambda match: match[1] + value + match[2], text, flags=re.MULTILINE
    )
    if not count:
        raise SettingsError(f"{what} is not in this query; {_expected(what, known)}")
    return changed


def _expected(found: str, known: list[str]) -> str:
    close = difflib.get_close_matches(found, known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"expected one of {', '.join(known)}.{hint}"


def _identifier(name: str) -> str:
    """A table or column name as KQL writes it."""
    if _PLAIN_NAME.fullmatch(name):
        return name
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"['{escaped}']"
