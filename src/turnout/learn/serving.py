"""The settings file that serves what was learnt."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from turnout.catalog import Catalog, load_catalog, normalised
from turnout.learn.models import ModelUse
from turnout.records import ModelClass

# Provider → its endpoint, and where its key is looked for.
_ENDPOINTS = {
    "anthropic": ("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    "openai": ("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "google": ("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "deepseek": ("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "mistral": ("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "xai": ("https://api.x.ai/v1", "XAI_API_KEY"),
}
_PRICES = ("input_usd_per_mtok", "cached_input_usd_per_mtok", "output_usd_per_mtok")
_OWN = ("https://models.example.com/v1", "MODELS_API_KEY")


def settings_text(
    models: Mapping[ModelClass, ModelUse], router_table: str, catalog: Catalog
) -> str:
    """turnout.toml: upstreams, targets, and how the router decides.

    Args:
        models: Class → the model that it goes to.
        router_table: The `[router]` table that the replay wrote; empty where it recommends nothing.
        catalog: What the replay took prices from.
    """
    lines = [
        "# Written by `turnout learn`. Check the addresses, and that they know the models by these",
        "# names, which are the log's. Put your keys into the environment.",
        "",
    ]
    if len({use.model for use in models.values()}) < len(models):
        lines += [
            "# Both classes are one model: give each target the `effort` that tells them apart.",
            "",
        ]
    if router_table:
        lines.append(router_table)
    for provider in dict.fromkeys(use.provider or "own" for use in models.values()):
        url, key = _ENDPOINTS.get(provider, _OWN)
        lines += [
            f"[upstreams.{provider}]",
            f"url = {json.dumps(url)}",
            f"api_key_env = {json.dumps(key)}",
            "",
        ]
    for model_class, use in models.items():
        lines += [
            f"[targets.{model_class}]",
            f"upstream = {json.dumps(use.provider or 'own')}",
            f"model = {json.dumps(use.logged)}",
            "",
        ]
    lines += _own_entries(models, catalog)
    lines += [
        "[gateway]",
        "port = 8080",
        'journal = "journal"',
        "# shadow = true    # decide and write down, but route nothing: for the first week",
        "",
    ]
    return "\n".join(lines)


def _own_entries(models: Mapping[ModelClass, ModelUse], catalog: Catalog) -> list[str]:
    """The facts and prices that the shipped catalog has otherwise, or has not."""
    shipped, lines = load_catalog(), list[str]()
    for logged in dict.fromkeys(use.logged for use in models.values()):
        entry, price = catalog.lookup(logged), catalog.price(logged)
        if entry is not None and entry != shipped.lookup(logged):
            lines += [
                "[[catalog.model]]",
                f"pattern = {json.dumps(re.escape(normalised(logged)))}",
                f"name = {json.dumps(entry.name)}",
                f"provider = {json.dumps(entry.provider)}",
                f"family = {json.dumps(entry.family)}",
                f"class = {json.dumps(entry.model_class)}",
                "",
            ]
        if price is not None and price != shipped.price(logged):
            named = {name: getattr(price, name) for name in _PRICES}
            lines += [
                "[[catalog.price]]",
                f"pattern = {json.dumps(re.escape(catalog.priced_name(logged) or ''))}",
                *(f"{name} = {usd!r}" for name, usd in named.items() if usd is not None),
                "",
            ]
    return lines
