"""Model names as logs write them → provider, family, class and list price."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from turnout.records import ModelClass

_REASONING_ENDING = re.compile(r"-(?:thinking|reasoning|high|xhigh|max-effort)(?:-|$)")
_FAST_ENDING = re.compile(r"-(?:no-?thinking|non-reasoning|minimal|none)(?:-|$)")
# A Bedrock inference profile: its region, then the model's maker.
_REGION = re.compile(r"^(?:us|us-gov|eu|apac|jp|au|ca|global)\.(?=[a-z-]+\.)")
_MAKER = re.compile(r"^(?:anthropic|amazon|meta|mistral|cohere)\.")
_FINE_TUNED = re.compile(r"^ft:")
# Endings that name no other model: a deployment's version or offer.
_DEPLOYMENT = re.compile(
    r"@.*$|(?<=-20\d{6})-v\d+$|-v\d+:\d+$"
    r"|:(?:\d+|latest|free|beta|nitro|floor|online|exacto|extended|standard)$"
)
_DATE = re.compile(r"-(?:20\d{6}|20\d\d-\d\d-\d\d|\d\d-\d\d|\d{4})(?=-|$)")
# The requested effort changes the tokens used, not their price.
_EFFORT_ENDING = re.compile(
    r"(?:-(?:thinking|reasoning|non-?reasoning|no-?thinking|none|minimal|low|medium|high|xhigh"
    r"|max-effort|latest))+$"
)
_TOKENS_PER_MTOK = 1_000_000


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """The catalog's facts about one logged name.

    Attributes:
        name: Canonical name, the same for every spelling of one model.
        provider: Its maker.
        family: Its product line.
        model_class: The class that served, by the name and the turn.
    """

    name: str
    provider: str
    family: str
    model_class: ModelClass


@dataclass(frozen=True, slots=True)
class Price:
    """A model's price, in USD for a million tokens.

    Attributes:
        input_usd_per_mtok: Prompt tokens.
        output_usd_per_mtok: Completion tokens, with reasoning tokens.
        cached_input_usd_per_mtok: Prompt tokens read from the prompt cache; None: as others.
        cache_write_usd_per_mtok: Prompt tokens written to the prompt cache; None: as others.
        source: Where the price is published.
        as_of: Date of the price; None where the settings file gives none.

    Raises:
        ValueError: If a price is negative.
    """

    input_usd_per_mtok: float
    output_usd_per_mtok: float
    cached_input_usd_per_mtok: float | None = None
    cache_write_usd_per_mtok: float | None = None
    source: str = ""
    as_of: dt.date | None = None

    def __post_init__(self) -> None:
        prices = (
            self.input_usd_per_mtok,
            self.output_usd_per_mtok,
            self.cached_input_usd_per_mtok or 0.0,
            self.cache_write_usd_per_mtok or 0.0,
        )
        if not all(price >= 0 for price in prices):
            raise ValueError(f"prices must be USD for a million tokens, at least 0; found {self}")

    @property
    def read_usd_per_mtok(self) -> float:
        """Price of prompt tokens that are in the prompt cache."""
        cached = self.cached_input_usd_per_mtok
        return self.input_usd_per_mtok if cached is None else cached

    @property
    def fresh_usd_per_mtok(self) -> float:
        """Price of prompt tokens that are not in the prompt cache and are written to it."""
        written = self.cache_write_usd_per_mtok
        return self.input_usd_per_mtok if written is None else written

    def cost_usd(
        self,
        *,
        prompt_tokens: float,
        completion_tokens: float,
        cached_tokens: float = 0,
        written_tokens: float = 0,
    ) -> float:
        """The cost of tokens, in USD.

        Args:
            prompt_tokens: All prompt tokens, with cached ones.
            completion_tokens: All completion tokens, with reasoning tokens.
            cached_tokens: Prompt tokens read from the cache.
            written_tokens: Prompt tokens written to it.
        """
        return (
            (prompt_tokens - cached_tokens - written_tokens) * self.input_usd_per_mtok
            + written_tokens * self.fresh_usd_per_mtok
            + cached_tokens * self.read_usd_per_mtok
            + completion_tokens * self.output_usd_per_mtok
        ) / _TOKENS_PER_MTOK


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
        prices: As in `catalog.toml`.

    Attributes:
        digest: Hex sha256 of entries and unnamed names, which a stage's tables depend on; prices
            are not part of it.
    """

    def __init__(
        self,
        entries: Sequence[Mapping[str, Any]],
        unnamed: Sequence[str],
        prices: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._prices = [_price(entry) for entry in prices]
        self._entries = [_entry(entry) for entry in entries]
        self._unnamed = frozenset(unnamed)
        stored = json.dumps([list(map(dict, entries)), sorted(unnamed)], sort_keys=True)
        self.digest = hashlib.sha256(stored.encode()).hexdigest()

    def names_a_model(self, logged: str | None) -> bool:
        """Whether a logged name names a model; `auto`, `default` and null do not."""
        as_logged = (logged or "").strip().lower()
        name = normalised(as_logged)
        return bool(name) and self._unnamed.isdisjoint({name, as_logged})

    def canonical_name(self, logged: str | None) -> str | None:
        """The canonical name of a model, whatever its spelling.

        A model that no entry matches keeps its normalised name. None where `logged` names no model.
        """
        if not self.names_a_model(logged):
            return None
        entry = self.lookup(logged)
        return entry.name if entry else normalised(logged or "")

    def lookup(self, logged: str | None, *, reasoned: bool | None = None) -> CatalogModel | None:
        """The facts about a logged name.

        Args:
            logged: As the log writes it.
            reasoned: For a hybrid model, whether it reasoned at that turn; None where the log
                does not tell.

        Returns:
            None where the name is no model or no entry matches; nothing is guessed.
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

    def price(self, logged: str | None) -> Price | None:
        """The price of a model.

        Args:
            logged: As the log or an upstream writes it. A model without an entry may have a price.

        Returns:
            None where no price is known; nothing is guessed, not from the family either.
        """
        name = self.priced_name(logged)
        if name is None:
            return None
        return next((price for pattern, price in self._prices if pattern.fullmatch(name)), None)

    def priced_name(self, logged: str | None) -> str | None:
        """The name that the patterns of prices are compared with; None where it is no model."""
        name = self.canonical_name(logged)
        return None if name is None else _EFFORT_ENDING.sub("", name)


def load_catalog(overrides: Mapping[str, Any] | None = None) -> Catalog:
    """The shipped catalog, with the user's entries before it.

    Args:
        overrides: The `[catalog]` table of turnout.toml, as `turnout.settings` checks it: `model`
            and `price` entries and `unnamed` names.
    """
    text = resources.files("turnout.catalog").joinpath("catalog.toml").read_text(encoding="utf-8")
    shipped = tomllib.loads(text)
    users = overrides or {}
    return Catalog(*([*users.get(key, []), *shipped[key]] for key in ("model", "unnamed", "price")))


def normalised(logged: str) -> str:
    """A logged name in one spelling: without prefixes, dates, blanks, dots and capitals.

    After a colon, a size or a variant (`llama3:8b`, `…:thinking`) makes another model; a deployment
    (`…-v1:0`, `…:free`) does not.
    """
    name = logged.strip().lower().rpartition("/")[2]
    name = re.sub(r"[<>()\[\]]", " ", name)
    name = re.sub(r"\s+\.\S*$", "", name).strip()  # a stray fraction of a second after the name
    name = _DEPLOYMENT.sub("", _FINE_TUNED.sub("", name))
    name = _MAKER.sub("", _REGION.sub("", name))
    name = re.sub(r"[\s._:]+", "-", name).strip("-")
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


def _entry(entry: Mapping[str, Any]) -> _Entry:
    return _Entry(
        re.compile(entry["pattern"]),
        entry.get("name"),
        entry["provider"],
        entry["family"],
        entry["class"],
        entry.get("hybrid", False),
    )


def _price(entry: Mapping[str, Any]) -> tuple[re.Pattern[str], Price]:
    return re.compile(entry["pattern"]), Price(**{k: v for k, v in entry.items() if k != "pattern"})
