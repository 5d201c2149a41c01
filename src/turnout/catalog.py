"""Model names as logs write them → provider, family and class; knows no log and no price."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, get_args

from turnout.errors import SettingsError
from turnout.records import ModelClass

_REASONING_ENDING = re.compile(r"-(?:thinking|reasoning|high|xhigh|max-effort)(?:-|$)")
_FAST_ENDING = re.compile(r"-(?:no-?thinking|non-reasoning|minimal)(?:-|$)")
_PREFIX = re.compile(r"^(?:(?:us|eu|apac|global)\.)?(?:anthropic|amazon|meta|mistral|cohere)\.")
_DATE = re.compile(r"-(?:20\d{6}|20\d\d-\d\d-\d\d|\d\d-\d\d|\d{4})(?=-|$)")
_KEYS = {"pattern", "name", "provider", "family", "class", "hybrid"}


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """What the catalogue says of one logged name.

    Attributes:
        name: Canonical: the same for every spelling of one model.
        provider: Who makes it.
        family: Its line.
        model_class: The class that served, as far as name and turn tell.
    """

    name: str
    provider: str
    family: str
    model_class: ModelClass


@dataclass(frozen=True, slots=True)
class _Entry:
    pattern: re.Pattern[str]
    name: str | None
    provider: str
    family: str
    model_class: ModelClass
    hybrid: bool


class Catalog:
    """The entries, tried in order.

    Args:
        entries: As in `catalog.toml`.
        unnamed: Names that name no model.

    Attributes:
        digest: Hex sha256 of all it was made from: what a stage's output depends on.
    """

    def __init__(self, entries: Sequence[Mapping[str, Any]], unnamed: Sequence[str]) -> None:
        self._entries = [_entry(number, entry) for number, entry in enumerate(entries, start=1)]
        self._unnamed = frozenset(unnamed)
        stored = json.dumps([list(map(dict, entries)), sorted(unnamed)], sort_keys=True)
        self.digest = hashlib.sha256(stored.encode()).hexdigest()

    def names_a_model(self, logged: str | None) -> bool:
        """Whether a logged name means a model at all; `auto`, `default` and null do not."""
        name = normalised(logged or "")
        return bool(name) and name not in self._unnamed

    def lookup(self, logged: str | None, *, reasoned: bool | None = None) -> CatalogModel | None:
        """What is known of a logged name.

        Args:
            logged: As the log writes it.
            reasoned: For a hybrid model, whether it reasoned at that turn; None where the log
                does not tell.

        Returns:
            None where the name names no model or no entry matches: unknown is never guessed.
        """
        if not self.names_a_model(logged):
            return None
        name = normalised(logged or "")
        for entry in self._entries:
            match = entry.pattern.fullmatch(name)
            if match:
                groups = {key: value or "" for key, value in match.groupdict().items()}
                return CatalogModel(
                    name=entry.name.format(**groups).strip("-") if entry.name else name,
                    provider=entry.provider,
                    family=entry.family.format(**groups),
                    model_class=_class_used(entry, name, reasoned),
                )
        return None


def load_catalog(overrides: Mapping[str, Any] | None = None) -> Catalog:
    """The shipped catalogue, with the user's entries before it.

    Args:
        overrides: The `[catalog]` table of turnout.toml: `model` entries and `unnamed` names.

    Raises:
        SettingsError: If an entry is not in the form that `catalog.toml` documents.
    """
    text = resources.files("turnout").joinpath("catalog.toml").read_text(encoding="utf-8")
    shipped = tomllib.loads(text)
    own = overrides or {}
    return Catalog(
        [*own.get("model", []), *shipped["model"]], [*own.get("unnamed", []), *shipped["unnamed"]]
    )


def normalised(logged: str) -> str:
    """A logged name in one spelling: without prefixes, dates, blanks, dots and capitals."""
    name = logged.strip().lower().rpartition("/")[2]
    name = re.sub(r"[<>()\[\]]", " ", name)
    name = re.sub(r"\s+\.\S*$", "", name)  # a stray fraction of a second after the name
    name = re.sub(r"[@:].*$", "", name)
    name = _PREFIX.sub("", name.strip())
    name = re.sub(r"[\s._]+", "-", name).strip("-")
    name = re.sub(r"-v\d+$", "", name)
    return _DATE.sub("", name).strip("-")


def _class_used(entry: _Entry, name: str, reasoned: bool | None) -> ModelClass:
    if not entry.hybrid:
        return entry.model_class
    if _FAST_ENDING.search(name):
        return "fast"
    if _REASONING_ENDING.search(name):
        return "reasoning"
    # Reasoning tokens show that it reasoned; their absence may only mean an older log.
    return "reasoning" if reasoned else entry.model_class


def _entry(number: int, entry: Mapping[str, Any]) -> _Entry:
    missing = {"pattern", "provider", "family", "class"} - set(entry)
    unknown = set(entry) - _KEYS
    if missing or unknown or entry["class"] not in get_args(ModelClass):
        raise SettingsError(
            f"catalog entry {number}: found {dict(entry)}; expected pattern, provider, family and "
            "class (reasoning or fast), and optionally name and hybrid."
        )
    try:
        pattern = re.compile(entry["pattern"])
    except re.error as error:
        raise SettingsError(
            f"catalog entry {number}: pattern {entry['pattern']!r} is no regular expression "
            f"({error})."
        ) from error
    return _Entry(
        pattern,
        entry.get("name"),
        entry["provider"],
        entry["family"],
        entry["class"],
        bool(entry.get("hybrid", False)),
    )
