"""The cost of a turn on a target: tokens times prices, with the prompt cache."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from turnout.catalog import Catalog, Price
from turnout.records import OTHER_CLASS, ModelClass

if TYPE_CHECKING:
    from turnout.routing.policies.situation import Situation

_TOKENS_PER_MTOK = 1_000_000
# Assumed tokens of an answer, with reasoning tokens, where no log gives them.
EXPECTED_OUTPUT_TOKENS: Mapping[ModelClass, float] = {"reasoning": 1_500, "fast": 400}
# Of prompt caches, write price as a multiple of the input price, and lifetime in seconds: list
# terms of November 2026 for the shortest lifetime that each maker sells.
_ANTHROPIC, _OPENAI_NEW, _DEFAULT = (1.25, 300.0), (1.25, 1800.0), (None, 300.0)
_OPENAI_NEW_MODELS = re.compile(r"gpt-(?:5-(?:[6-9]|[1-9]\d)|[6-9])(?:-|$)")


def _cache_terms(model: str, catalog: Catalog) -> tuple[float | None, float]:
    """Write price as a multiple of the input price (None: the same), and lifetime in seconds."""
    entry = catalog.lookup(model)
    if entry is not None and entry.provider == "anthropic":
        return _ANTHROPIC
    if _OPENAI_NEW_MODELS.match(catalog.canonical_name(model) or ""):
        return _OPENAI_NEW
    return _DEFAULT


@dataclass(frozen=True, slots=True)
class Target:
    """The model that serves a class, with what its cost depends on.

    Attributes:
        name: The model.
        prices: Of its tokens.
        output_tokens: Expected tokens of an answer, with reasoning tokens.
        shared_cache: Share in [0, 1] of the other target's cached prompt that this target can read
            too. 0 for another model. For the same model with another effort: 1 if the effort is
            changed by an appended message; the share of system prompt and tools if it is a
            parameter of the request.
        cache_lifetime_s: How long its prompt cache keeps an unused prompt.

    Raises:
        ValueError: If a number is out of its range.
    """

    name: str
    prices: Price
    output_tokens: float = 0.0
    shared_cache: float = 0.0
    cache_lifetime_s: float = 300.0

    def __post_init__(self) -> None:
        if not (self.output_tokens >= 0 and self.cache_lifetime_s >= 0):
            raise ValueError(
                f"expected output_tokens and cache_lifetime_s of at least 0; found {self}"
            )
        if not 0 <= self.shared_cache <= 1:
            raise ValueError(f"expected a shared_cache in [0, 1]; found {self}")

    @classmethod
    def from_catalog(cls, model: str, catalog: Catalog, output_tokens: float) -> Target | None:
        """A model with its list price; None where the catalog has none.

        Args:
            model: The upstream's name for it.
            catalog: Prices and providers of models.
            output_tokens: Expected tokens of an answer.
        """
        price = catalog.price(model)
        if price is None:
            return None
        write, lifetime_s = _cache_terms(model, catalog)
        if write is not None:
            price = replace(price, cache_write_usd_per_mtok=write * price.input_usd_per_mtok)
        return cls(model, price, output_tokens, cache_lifetime_s=lifetime_s)

    def turn_usd(self, prompt_tokens: float, cached_tokens: float) -> float:
        """The cost of a turn.

        Args:
            prompt_tokens: Of the whole prompt.
            cached_tokens: Those of them read from the prompt cache.
        """
        prices = self.prices
        return (
            cached_tokens * prices.read_usd_per_mtok
            + (prompt_tokens - cached_tokens) * prices.fresh_usd_per_mtok
            + self.output_tokens * prices.output_usd_per_mtok
        ) / _TOKENS_PER_MTOK


@dataclass(frozen=True, slots=True)
class TurnCosts:
    """The cost of a turn on the current class and on the other one, in USD.

    Attributes:
        stay_usd: On the current class; at a first turn, on fast.
        switch_usd: On the other class.
        extra_usd: Reasoning minus fast, both with the conversation in their caches.
        switching_usd: The part of `switch_usd` for tokens that only the current class has cached.
    """

    stay_usd: float
    switch_usd: float
    extra_usd: float
    switching_usd: float

    @classmethod
    def of(cls, situation: Situation) -> TurnCosts | None:
        """The costs of a turn; None where a target's prices are not known."""
        targets = situation.targets
        if "reasoning" not in targets or "fast" not in targets:
            return None
        current = situation.current_class or "fast"
        other: ModelClass = OTHER_CLASS[current]
        prompt = situation.prompt_tokens
        warm = situation.warm_tokens(current)
        shared = targets[other].shared_cache * warm
        other_warm = max(situation.warm_tokens(other), shared)
        warmest = max(warm, other_warm)
        on_reasoning, on_fast = (
            targets[c].turn_usd(prompt, warmest) for c in ("reasoning", "fast")
        )
        switch_usd = targets[other].turn_usd(prompt, other_warm)
        return cls(
            stay_usd=targets[current].turn_usd(prompt, warm),
            switch_usd=switch_usd,
            extra_usd=on_reasoning - on_fast,
            switching_usd=switch_usd - targets[other].turn_usd(prompt, warmest),
        )
