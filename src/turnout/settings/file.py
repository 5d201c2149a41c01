"""Reads turnout.toml, lets flags override it, and reports every wrong key and value."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from turnout.catalog import Catalog
from turnout.errors import SettingsError
from turnout.settings.tables import Settings

Origin = Literal["file", "default"]
Flags = Mapping[str, Mapping[str, object]]
"""Table → key → the flag's value; None where the flag is not given."""

_SECRET = re.compile(r"key$|token|secret|password|authorization", re.IGNORECASE)
_PASSWORD_IN_URL = re.compile(r"(?<=://)[^/@]+(?=@)")
_KEY_IN_QUERY = re.compile(r"([?&][^=&]*(?:key|token|secret|password|sig)[^=&]*=)[^&]+", re.I)


@dataclass(frozen=True, slots=True)
class SettingValue:
    """One setting, its value and who set it; secrets are masked."""

    key: str
    value: object
    origin: Origin


def load_settings(path: Path | None, flags: Flags | None = None) -> Settings:
    """Read a settings file; flags of the command line override it.

    Args:
        path: None leaves all at its default.
        flags: Checked as the file's values are.

    Raises:
        SettingsError: If the file cannot be read, or with every key and value that is wrong.
    """
    return _checked(path, _with_flags(_read(path), flags))


def catalog_of(path: Path | None) -> Catalog:
    """The shipped catalog, with what a settings file adds to it, if one is given.

    Raises:
        SettingsError: As `load_settings`.
    """
    return load_settings(path).merged_catalog()


def setting_values(path: Path | None) -> list[SettingValue]:
    """Every setting in the order of the file, with where it came from.

    Raises:
        SettingsError: As `load_settings`.
    """
    stored = _read(path)
    settings = _checked(path, stored)
    values = []
    for key, value in _leaves(settings.model_dump(by_alias=True)):
        origin: Origin = "default" if _lookup(stored, key) is None else "file"
        values.append(SettingValue(".".join(map(str, key)), _masked(key, value), origin))
    return values


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(
            f"{path}: not found; expected a settings file such as examples/turnout.toml."
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(
            f"{path}: not readable as TOML ({error}); expected a settings file."
        ) from error


def _with_flags(stored: Mapping[str, Any], flags: Flags | None) -> dict[str, Any]:
    merged = dict(stored)
    for table, values in (flags or {}).items():
        overrides = {key: value for key, value in values.items() if value is not None}
        if overrides and isinstance(merged.get(table, {}), dict):
            merged[table] = {**merged.get(table, {}), **overrides}
    return merged


def _checked(path: Path | None, stored: Mapping[str, Any]) -> Settings:
    problems = _unknown_upstreams(stored)
    try:
        settings = Settings.model_validate(stored, context=path.parent if path else None)
    except ValidationError as error:
        problems = [_problem(detail) for detail in error.errors()] + problems
    if problems:
        apart = "\n  " if len(problems) > 1 else " "
        raise SettingsError(apart.join([f"{path or 'settings'}:", *problems]))
    return settings


def _unknown_upstreams(stored: Mapping[str, Any]) -> list[str]:
    """Targets whose upstream is not in the file; no single field can check that."""
    upstreams = stored.get("upstreams", {})
    if not isinstance(upstreams, dict):
        return []
    return [
        f"[{where}] upstream: found {name!r}; expected one of [upstreams]: "
        f"{', '.join(upstreams) or 'none is there'}."
        for where, target in _with_upstream(stored)
        if isinstance(name := target.get("upstream"), str) and name not in upstreams
    ]


def _with_upstream(stored: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every table that names an upstream, with its place."""
    for table in ("targets", "models"):
        named = stored.get(table, {})
        for name, target in named.items() if isinstance(named, dict) else ():
            if not isinstance(target, dict):
                continue
            yield f"{table}.{name}", target
            stand_ins = target.get("stand_ins", ())
            for stand_in in stand_ins if isinstance(stand_ins, list) else ():
                if isinstance(stand_in, dict):
                    yield f"{table}.{name}.stand_ins", stand_in


def _problem(error: ErrorDetails) -> str:
    """An error of pydantic as a message with the file's table and key."""
    table, key = _place(error["loc"])
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(key), names := _keys(error["loc"][:-1]), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"expected {', '.join(names)}."
        return f"{table or 'the file'} has no key {key!r}; {hint}"
    where = f"{table} {key}".strip()
    if error["type"] == "missing":
        return f"{where}: missing; expected a value."
    expected = re.sub(r"^(\w+ should (be|match|have)|Value error,) ", "", error["msg"])
    expected = re.sub(r"^(?=less|greater)", "a number ", expected)
    return f"{where}: found {_masked([key], error['input'])!r}; expected {expected}."


def _place(location: Sequence[str | int]) -> tuple[str, str | int]:
    """A location as TOML writes it: its table and its key."""
    *tables, key = location
    numbers = [step + 1 for step in tables if isinstance(step, int)]
    names = ".".join(step for step in tables if isinstance(step, str))
    if numbers:
        return f"[[{names}]] {numbers[0]}:", key
    return f"[{names}]" if names else "", key


def _keys(location: Sequence[str | int]) -> list[str]:
    """The keys of the table at a location, as the schema has them."""
    schema = Settings.model_json_schema()
    node: Mapping[str, Any] = schema
    for step in [*location, None]:
        node = next((choice for choice in node.get("anyOf", ()) if "$ref" in choice), node)
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        if step is not None:
            inside = node.get("properties", {}).get(step)
            node = inside or node.get("items") or node["additionalProperties"]
    return list(node["properties"])


def _leaves(node: object, key: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, object]]:
    pairs: Iterator[tuple[Any, object]] | None = None
    if isinstance(node, dict):
        pairs = iter(node.items())
    elif isinstance(node, list):
        pairs = iter(enumerate(node))
    if pairs is None:
        yield key, node
    else:
        for step, inside in pairs:
            yield from _leaves(inside, (*key, step))


def _lookup(node: Any, key: Sequence[str | int]) -> object:  # noqa: ANN401 (any TOML value)
    for step in key:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return None
    return node


def _masked(key: Sequence[str | int], value: object) -> object:
    if isinstance(value, str):
        if str(key[-1]).endswith("_env"):
            return f"{value} ({'set' if os.environ.get(value) else 'not set'} in the environment)"
        if _SECRET.search(str(key[-1])):
            return "…"
        return _KEY_IN_QUERY.sub(r"\1…", _PASSWORD_IN_URL.sub("…", value))
    return value
