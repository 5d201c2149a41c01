"""How many chat models of public lists the catalog knows, and which it does not.

Usage: python benchmarks/catalog_check.py [--prices] [--litellm FILE]

Reads the table of the package genai-prices where it is installed, and LiteLLM's map of models: of
the package where it is installed, or the JSON file that is named. Prints the share of chat models
with a provider and a family, the names without, and those whose class their own name contradicts.
With --prices it prints a `[[price]]` entry for every known chat model without a price that its own
maker sells, at the list price, to be checked and copied into `catalog.toml`. Nothing is fetched;
LiteLLM's package asks for a newer map when it is imported, the named file does not.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from turnout.catalog import Catalog, load_catalog, normalised

# What a name says itself: it reasons, or it does not.
REASONS = re.compile(r"(?:^|-)(?:thinking|reasoning|reasoner|r1|qwq|o1|o3|o4)(?:-|$)")
REASONS_NOT = re.compile(r"non-reasoning|no-thinking|non-thinking")
SMALL = re.compile(r"(?:^|-)(?:instruct|nano|flash-lite|haiku)(?:-|$)")
# Names that a list counts as chat models and that answer no person.
NO_CHAT = re.compile(
    r"embed|rerank|moderation|guard|whisper|tts|audio|realtime|transcri|speech|image|dall-e|imagen"
    r"|veo|sora|video|clip|ocr|bge|jina|sdxl|stable-|flux|search-preview|computer-use|container"
    r"|code-interpreter|safety|shield|robotics|voyage|music|live-|-live$|omni-mod|similarity|ada-00"
    r"|text-search|deepgram|parakeet|rnnt|classif|translat"
)


# Who sells models of their own, by their names: what others ask for them is no list price.
MAKERS = {
    "anthropic": r"claude-(?!2|v1|instant)",
    "openai": r"gpt-[4-9]|o\d|codex",
    "google": r"gemini-[2-9]",
    "deepseek": r"deepseek",
    "x-ai": r"grok-[3-9]|grok-code",
    "mistral": r"(?:mistral|ministral|magistral)-(?:small|medium|large|\db)|codestral|devstral",
    "moonshotai": r"kimi",
    "zai": r"glm-4-[5-9]|glm-[5-9]",
    "minimax": r"minimax",
    "cohere": r"command-",
    "meta": r"muse",
    "perplexity": r"sonar",
}
# Ways to be served, models of another kind, and names that move from model to model.
NO_LIST_PRICE = re.compile(
    r"batch|latest|free|preview-\d\d|vision|contributor|cyber|rosalind|search|32k|highspeed|turbo-"
    r"|fast$|-ft$|omni|banana|(?:small|mini)-\d\db"
)


def genai_prices(makers_only: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """Chat models of genai-prices: name, and its prices in USD for a million tokens."""
    try:
        from genai_prices.data import providers
    except ImportError:
        return
    for provider in providers:
        own = re.compile(MAKERS.get(provider.id, r"(?!)"))
        for model in provider.models:
            if makers_only and not own.match(normalised(model.id)):
                continue
            prices = model.prices
            if isinstance(prices, list):
                prices = next(each.prices for each in reversed(prices) if holds(each.constraint))
            usd = {
                "input_usd_per_mtok": getattr(prices, "input_mtok", None),
                "output_usd_per_mtok": getattr(prices, "output_mtok", None),
                "cached_input_usd_per_mtok": getattr(prices, "cache_read_mtok", None),
            }
            yield model.id, usd


def holds(constraint: object) -> bool:
    """Whether a price holds today, at any hour."""
    start = getattr(constraint, "start_date", None)
    return constraint is None or (start is not None and start <= dt.date.today())


def litellm_map(path: Path | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Chat models of LiteLLM's map."""
    if path is None:
        try:
            root = resources.files("litellm")
        except ModuleNotFoundError:
            return
        text = (root / "model_prices_and_context_window_backup.json").read_text()
    else:
        text = path.read_text()
    for name, facts in json.loads(text).items():
        if name != "sample_spec" and facts.get("mode") in ("chat", "completion", "responses"):
            yield name, {}


def check(title: str, names: list[str], catalog: Catalog) -> None:
    """Print what the catalog says of the names of a list."""
    chat = sorted({name for name in names if not NO_CHAT.search(normalised(name))})
    unknown = [name for name in chat if catalog.lookup(name) is None]
    print(f"\n{title}: {len(chat)} chat models, {1 - len(unknown) / max(1, len(chat)):.1%} known")
    for name in unknown:
        print(f"  unknown: {name}")
    for name in chat:
        known, said = catalog.lookup(name), class_in(normalised(name))
        if known and said and known.model_class != said:
            print(f"  contradicted: {name} is called {known.model_class}")


def class_in(name: str) -> str | None:
    """The class that a name says itself; None where it says none."""
    if REASONS_NOT.search(name):
        return "fast"
    if REASONS.search(name):
        return "reasoning"
    return "fast" if SMALL.search(name) else None


def print_prices(models: list[tuple[str, dict[str, Any]]], catalog: Catalog) -> None:
    """Print an entry for each known model that has no price yet."""
    version = importlib.metadata.version("genai-prices")
    seen: set[str] = set()
    for name, prices in models:
        canonical = catalog.canonical_name(name)
        numbers = {key: value for key, value in prices.items() if value is not None}
        # Of prices that rise with the prompt's length, that of short prompts.
        tiered = any(hasattr(value, "base") for value in numbers.values())
        numbers = {key: getattr(value, "base", value) for key, value in numbers.items()}
        if NO_CHAT.search(str(canonical)) or NO_LIST_PRICE.search(str(canonical)):
            continue
        if canonical in seen or catalog.lookup(name) is None or catalog.price(name):
            continue
        if {"input_usd_per_mtok", "output_usd_per_mtok"} <= numbers.keys():
            seen.add(str(canonical))
            if len({str(other) for each, other in models if catalog.same_model(each, name)}) > 1:
                continue  # versions of one name at different prices
            print(f"\n[[price]]\npattern = '{canonical}'")
            for key, value in numbers.items():
                print(f"{key} = {float(value)}")
            tier = ", short prompts" if tiered else ""
            print(f'source = "genai-prices {version}{tier}"\nas_of = {dt.date.today()}')


def main() -> None:
    """Read the lists, and print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prices", action="store_true")
    parser.add_argument("--litellm", type=Path)
    options = parser.parse_args()
    catalog = load_catalog()
    if options.prices:
        print_prices(list(genai_prices(makers_only=True)), catalog)
        return
    models = list(genai_prices())
    check("genai-prices", [name for name, _ in models], catalog)
    check("LiteLLM", [name for name, _ in litellm_map(options.litellm)], catalog)


if __name__ == "__main__":
    main()
