"""Which models a log uses, what they cost, and which two stand for the classes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow.parquet as pq

from turnout.catalog import Catalog
from turnout.errors import SettingsError
from turnout.records import ModelClass
from turnout.routing.policies import Target
from turnout.routing.policies.costs import EXPECTED_OUTPUT_TOKENS

# Of a turn that models are ordered by price with.
_PROMPT_TOKENS = 5_000
_BATCH_ROWS = 50_000
_COLUMNS = ["model", "reasoning_tokens", "prompt_tokens", "completion_tokens", "cached_tokens"]

# Canonical name, and the class that the model served as.
_Key = tuple[str, ModelClass | None]


@dataclass(frozen=True, slots=True)
class ModelUse:
    """A model of the log, in the turns that it served as one class.

    Attributes:
        model: Canonical name.
        logged: The name that the log has most often for it there.
        provider: Who serves it; None where the catalog does not know the model.
        model_class: None where the catalog does not know the model.
        turns: Turns that it served.
        counted_turns: Of them, those whose tokens the log counts.
        usd: What the counted turns cost at list prices; None where no price is known.
    """

    model: str
    logged: str
    provider: str | None
    model_class: ModelClass | None
    turns: int
    counted_turns: int
    usd: float | None


def model_uses(turns: Path, catalog: Catalog) -> list[ModelUse]:
    """The models of a turns table, those with most turns first.

    A hybrid model that reasoned in some turns and not in others is there once for each class.

    Args:
        turns: A turns table.
        catalog: Model names to classes and prices.
    """
    counts: dict[_Key, list[float]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    names: dict[_Key, Counter[str]] = defaultdict(Counter)
    keys: dict[tuple[str | None, bool], _Key | None] = {}
    with pq.ParquetFile(turns) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=_COLUMNS):
            columns = [batch[name].to_pylist() for name in _COLUMNS]
            for model, reasoning, prompt, completion, cached in zip(*columns, strict=True):
                served = model, (reasoning or 0) > 0
                if served not in keys:
                    keys[served] = _key(*served, catalog)
                key = keys[served]
                if key is None:
                    continue
                names[key][model] += 1
                count = counts[key]
                count[0] += 1
                if prompt is not None and completion is not None:
                    count[1] += 1
                    count[2] += prompt
                    count[3] += completion
                    count[4] += min(cached or 0, prompt)
    uses = [
        _use(key, names[key].most_common(1)[0][0], count, catalog) for key, count in counts.items()
    ]
    return sorted(uses, key=lambda use: (-use.turns, use.model, use.logged))


def _key(logged: str | None, reasoned: bool, catalog: Catalog) -> _Key | None:
    """The model and the class that it served as; None where the log names no model."""
    name = catalog.canonical_name(logged)
    if name is None:
        return None
    known = catalog.lookup(logged, reasoned=reasoned)
    return name, known.model_class if known else None


def _use(key: _Key, logged: str, count: Sequence[float], catalog: Catalog) -> ModelUse:
    name, model_class = key
    turns, counted, prompt, completion, cached = count
    known, price = catalog.lookup(name), catalog.price(name)
    usd = None
    if price is not None and counted:
        usd = price.cost_usd(
            prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached
        )
    return ModelUse(
        name,
        logged,
        known.provider if known else None,
        model_class,
        int(turns),
        int(counted),
        usd,
    )


def model_named(name: str, catalog: Catalog) -> ModelUse:
    """A model that the log need not have."""
    known = catalog.lookup(name)
    return ModelUse(
        catalog.canonical_name(name) or name,
        name,
        known.provider if known else None,
        known.model_class if known else None,
        turns=0,
        counted_turns=0,
        usd=None,
    )


def model_of_class(
    name: ModelClass, uses: Sequence[ModelUse], named: Mapping[ModelClass, str], catalog: Catalog
) -> ModelUse | None:
    """The model that a class goes to: the one named, else the log's own in the middle by price.

    Half of the class's turns with a price went to models that cost no more, so that a class costs
    about what it costs today. Without any price it is the most used.

    Returns:
        None where none is named and the log uses none.
    """
    if name in named:
        return model_named(named[name], catalog)
    answer = EXPECTED_OUTPUT_TOKENS[name]
    used = [use for use in uses if use.model_class == name]
    priced = [
        (price.cost_usd(prompt_tokens=_PROMPT_TOKENS, completion_tokens=answer), use)
        for use in used
        if (price := catalog.price(use.model)) is not None
    ]
    if not priced:
        return used[0] if used else None
    priced.sort(key=lambda pair: pair[0])  # of equal prices the most used first
    below = np.cumsum([use.turns for _, use in priced])
    return priced[int(np.searchsorted(below, below[-1] / 2))][1]


def targets_of(
    uses: Sequence[ModelUse], named: Mapping[ModelClass, str], catalog: Catalog
) -> dict[ModelClass, Target]:
    """The model that each class would go to: the one named, else one of the log's own.

    Args:
        uses: The models of the log, those with most turns first.
        named: Class → model, where the settings file says so.
        catalog: Prices.

    Raises:
        SettingsError: If a class has no model with a price.
    """
    targets: dict[ModelClass, Target] = {}
    for name in get_args(ModelClass):
        use = model_of_class(name, uses, named, catalog)
        model = named.get(name, use.model if use else "")
        target = Target.from_catalog(model, catalog, EXPECTED_OUTPUT_TOKENS[name])
        if target is None:
            used = [use.model for use in uses if use.model_class == name]
            tried = ", ".join([named[name]] if name in named else used)
            missing = f"no price is known of {tried}" if tried else f"the log names no {name} model"
            raise SettingsError(
                f"Costs cannot be computed: {missing}. Run the same command with --{name}-model "
                f"and the name of a {name} model that you could use; for one of your own, give "
                "its price as [[catalog.price]] in a settings file (-c)."
            )
        targets[name] = target
    return targets
