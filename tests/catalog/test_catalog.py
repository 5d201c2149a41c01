"""Names as logs write them."""

import datetime as dt
import tomllib
from importlib import resources

import pytest

from turnout.catalog import Price, load_catalog, normalised

CATALOG = load_catalog()


@pytest.mark.parametrize(
    "logged",
    [
        "claude-opus-4-5-20251101",
        "anthropic/claude-opus-4.5",
        "us.anthropic.claude-opus-4-5-20251101-v1:0",
        "Claude Opus 4.5 (thinking)",
        "claude-4.5-opus-high-thinking",
        "vertex_ai/claude-opus-4-5@20251101",
        "claude-opus-4-5-20251101 .599Z",
    ],
)
def test_every_spelling_of_a_model_is_one_model(logged):
    entry = CATALOG.lookup(logged)
    assert entry is not None
    assert (entry.name, entry.provider, entry.model_class) == (
        "claude-opus-4-5",
        "anthropic",
        "reasoning",
    )


@pytest.mark.parametrize(
    ("logged", "other", "same"),
    [
        pytest.param("gpt-4o", "openai/GPT-4o-2024-08-06", True, id="prefix, case and date"),
        pytest.param("claude-opus-4-5", "claude-opus-4.5:thinking", True, id="more effort"),
        pytest.param("Acme_Model 2", "hub/acme-model-2:latest", True, id="an unknown name"),
        pytest.param("acme-model-2", "acme-model-3", False, id="two unknown names"),
        pytest.param("llama3:8b", "llama3:70b", False, id="another size"),
        pytest.param("ft:gpt-4o:acme:a:1", "ft:gpt-4o:acme:b:2", False, id="another fine-tuning"),
        pytest.param("jp.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4.5", True,
                     id="an inference profile"),
        pytest.param("deepseek-v2", "deepseek-v3", False, id="a version in the name"),
        pytest.param("auto", "auto", False, id="no model"),
        pytest.param(None, "", False, id="nothing"),
    ],
)  # fmt: skip
def test_two_names_mean_one_model_where_their_canonical_names_are_equal(logged, other, same):
    name = CATALOG.canonical_name(logged)
    assert (name is not None and name == CATALOG.canonical_name(other)) is same


@pytest.mark.parametrize(
    ("logged", "model_class"),
    [
        ("opus", "reasoning"),
        ("text-davinci-002-render-sha", "fast"),
        ("gpt-5-codex-mini", "fast"),
        ("gpt-5.1-none", "fast"),
        ("gpt-oss:20b", "reasoning"),
        ("gemini-1.5-pro-latest", "fast"),
        ("gemini-3-pro-preview", "reasoning"),
        ("grok-3", "fast"),
        ("grok-3-mini", "reasoning"),
        ("eu.amazon.nova-pro-v1:0", "fast"),
        ("kimi-k2-thinking", "reasoning"),
        ("moonshotai/kimi-k2-instruct", "fast"),
        ("command-r-plus", "fast"),
        ("command-a-reasoning-08-2025", "reasoning"),
        ("sonar-reasoning-pro", "reasoning"),
        ("codestral-latest", "fast"),
        ("claude-sonnet-4-5", "fast"),
        ("claude-haiku-4-5-20251001", "fast"),
        ("o3-mini", "reasoning"),
        ("gpt-4o-2024-08-06", "fast"),
        ("gpt-4.1", "fast"),
        ("gpt-5.3-codex", "reasoning"),
        ("gpt-5-mini", "fast"),
        ("gemini-2.5-pro", "reasoning"),
        ("gemini-2.5-flash", "fast"),
        ("deepseek-reasoner", "reasoning"),
        ("deepseek/deepseek-chat", "fast"),
        ("mistral-large-latest", "fast"),
        ("gpt-35-turbo", "fast"),
        ("llama3.1:8b", "fast"),
        ("Phi-4-reasoning-plus", "reasoning"),
        ("anthropic/claude-3.7-sonnet:thinking", "reasoning"),
        ("ft:gpt-4o-mini-2024-07-18:acme:support:9abc", "fast"),
    ],
)
def test_a_family_has_its_class(logged, model_class):
    entry = CATALOG.lookup(logged)
    assert entry is not None
    assert entry.model_class == model_class


def test_a_hybrid_model_takes_the_class_of_what_was_used():
    sonnet = "claude-sonnet-4-5"
    assert CATALOG.lookup(sonnet, reasoned=True).model_class == "reasoning"
    assert CATALOG.lookup(sonnet, reasoned=False).model_class == "fast"
    assert CATALOG.lookup(sonnet + "-thinking").model_class == "reasoning"
    assert CATALOG.lookup("gemini-2.5-pro-nothinking").model_class == "fast"


def test_a_model_that_cannot_reason_stays_fast_whatever_the_log_says():
    assert CATALOG.lookup("gpt-4o", reasoned=True).model_class == "fast"


@pytest.mark.parametrize(
    "logged",
    [
        None,
        "",
        "auto",
        "copilot/auto",
        "default",
        "<synthetic>",
        "nan",
        "N/A",
        "undefined",
        "Not Set",
    ],
)
def test_what_names_no_model_is_told_apart_from_what_is_unknown(logged):
    assert not CATALOG.names_a_model(logged)
    assert CATALOG.lookup(logged) is None


def test_what_is_unknown_is_never_guessed():
    assert CATALOG.names_a_model("claude-nimbus-5")
    assert CATALOG.lookup("claude-nimbus-5") is None


@pytest.mark.parametrize(
    ("logged", "provider", "model_class"),
    [
        pytest.param("databricks-glm-5-2", "zhipu", "reasoning", id="a host before the name"),
        pytest.param("zai-org/GLM-4.7-Flash", "zhipu", "fast", id="the smaller sibling"),
        pytest.param("deepseek-ai/DeepSeek-V4-Pro", "deepseek", "reasoning", id="the larger one"),
        pytest.param("liquid/lfm-2.5-1.2b-thinking:free", "liquid", "reasoning", id="an ending"),
        pytest.param("fireworks/qwen-qwq-32b-preview", "alibaba", "reasoning", id="a name inside"),
        pytest.param("global.openai.gpt-6-luna", "openai", "fast", id="a region and a maker"),
        pytest.param("Nous-Hermes-2-Yi-34B", "nous", "fast", id="a family of open models"),
    ],
)
def test_a_family_is_known_by_its_name_wherever_it_is_served(logged, provider, model_class):
    known = CATALOG.lookup(logged)
    assert (known.provider, known.model_class) == (provider, model_class)


def test_the_users_own_entries_come_first():
    own = {"model": [{"pattern": "gpt-4o", "provider": "us", "family": "x", "class": "reasoning"}]}
    entry = load_catalog(own).lookup("gpt-4o")
    assert entry is not None
    assert (entry.provider, entry.model_class) == ("us", "reasoning")


def test_normalising_twice_changes_nothing_more():
    for logged in ("us.anthropic.claude-opus-4-5-20251101-v1:0", "Claude Opus 4.5 (thinking)"):
        assert normalised(normalised(logged)) == normalised(logged)


@pytest.mark.parametrize(
    ("logged", "usd"),
    [
        ("us.anthropic.claude-opus-4-5-20251101-v1:0", (5, 0.5, 25)),
        ("Claude Opus 4.5 (thinking)", (5, 0.5, 25)),
        ("claude-sonnet-4-20250514", (3, 0.3, 15)),
        ("claude-3-haiku-20240307", (0.25, 0.03, 1.25)),
        ("openai/gpt-5-mini", (0.25, 0.025, 2)),
        ("gpt-5.1-codex-high", (1.25, 0.125, 10)),
        ("gpt-4o-2024-08-06", (2.5, 1.25, 10)),
        ("gpt-4-1106-preview", (10, None, 30)),
        ("o3-mini", (1.1, 0.55, 4.4)),
        ("gemini-2.5-flash-lite", (0.1, 0.01, 0.4)),
        ("grok-4-fast-non-reasoning", (0.2, 0.05, 0.5)),
        ("anthropic.claude-haiku-5-5-v1:0", (0.1, 0.01, 0.5)),
        ("openai/gpt-6-sol", (2, 0.2, 10)),
        ("moonshotai/kimi-k3:nitro", (3, 0.3, 15)),
    ],
)
def test_a_version_has_its_price_in_every_spelling(logged, usd):
    price = CATALOG.price(logged)
    assert price is not None
    assert (
        price.input_usd_per_mtok,
        price.cached_input_usd_per_mtok,
        price.output_usd_per_mtok,
    ) == usd


@pytest.mark.parametrize("logged", [None, "auto", "claude-opus-9", "gpt-5-image", "mystery-9"])
def test_a_price_that_is_not_known_is_not_guessed_from_the_family(logged):
    assert CATALOG.price(logged) is None


def test_cached_tokens_cost_their_own_price_and_the_full_one_where_there_is_none():
    tokens = {"prompt_tokens": 1_000_000, "cached_tokens": 400_000, "completion_tokens": 100_000}
    assert Price(2.0, 10.0, 0.5).cost_usd(**tokens) == pytest.approx(1.2 + 0.2 + 1.0)
    assert Price(2.0, 10.0).cost_usd(**tokens) == pytest.approx(2.0 + 1.0)


def test_the_users_own_prices_come_first_and_name_models_that_no_entry_knows():
    own = [
        {"pattern": "gpt-4o", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2},
        {"pattern": "house-model", "input_usd_per_mtok": 0, "output_usd_per_mtok": 0},
    ]
    catalog = load_catalog({"price": own})
    assert catalog.price("gpt-4o") == Price(1, 2)
    assert catalog.price("House_Model:latest") == Price(0, 0)
    assert catalog.digest == CATALOG.digest  # no table is made again for a price


def test_every_shipped_price_says_where_and_when_it_was_read_and_a_cache_is_never_dearer():
    text = resources.files("turnout.catalog").joinpath("catalog.toml").read_text(encoding="utf-8")
    prices = tomllib.loads(text)["price"]
    assert len(prices) > 30
    for price in prices:
        assert price["source"]
        assert isinstance(price["as_of"], dt.date)
        cached = price.get("cached_input_usd_per_mtok", price["input_usd_per_mtok"])
        assert cached <= price["input_usd_per_mtok"] <= price["output_usd_per_mtok"]
