"""Names as logs write them."""

import pytest

from turnout.catalog import load_catalog, normalised
from turnout.errors import SettingsError

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
    found = CATALOG.lookup(logged)
    assert found is not None
    assert (found.name, found.provider, found.model_class) == (
        "claude-opus-4-5",
        "anthropic",
        "reasoning",
    )


@pytest.mark.parametrize(
    ("logged", "model_class"),
    [
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
    ],
)
def test_a_family_has_its_class(logged, model_class):
    found = CATALOG.lookup(logged)
    assert found is not None
    assert found.model_class == model_class


def test_a_hybrid_model_takes_the_class_of_what_was_used():
    sonnet = "claude-sonnet-4-5"
    assert CATALOG.lookup(sonnet, reasoned=True).model_class == "reasoning"
    assert CATALOG.lookup(sonnet, reasoned=False).model_class == "fast"
    assert CATALOG.lookup(sonnet + "-thinking").model_class == "reasoning"
    assert CATALOG.lookup("gemini-2.5-pro-nothinking").model_class == "fast"


def test_a_model_that_cannot_reason_stays_fast_whatever_the_log_says():
    assert CATALOG.lookup("gpt-4o", reasoned=True).model_class == "fast"


@pytest.mark.parametrize("logged", [None, "", "auto", "copilot/auto", "default", "<synthetic>"])
def test_what_names_no_model_is_told_apart_from_what_is_unknown(logged):
    assert not CATALOG.names_a_model(logged)
    assert CATALOG.lookup(logged) is None


def test_what_is_unknown_is_never_guessed():
    assert CATALOG.names_a_model("claude-fable-5")
    assert CATALOG.lookup("claude-fable-5") is None


def test_the_users_own_entries_come_first():
    own = {"model": [{"pattern": "gpt-4o", "provider": "us", "family": "x", "class": "reasoning"}]}
    found = load_catalog(own).lookup("gpt-4o")
    assert found is not None
    assert (found.provider, found.model_class) == ("us", "reasoning")


@pytest.mark.parametrize(
    "entry",
    [
        {"pattern": "x", "provider": "p", "family": "f"},
        {"pattern": "x", "provider": "p", "family": "f", "class": "slow"},
        {"pattern": "(", "provider": "p", "family": "f", "class": "fast"},
        {"pattern": "x", "provider": "p", "family": "f", "class": "fast", "prize": 3},
    ],
)
def test_an_entry_that_cannot_be_read_is_refused(entry):
    with pytest.raises(SettingsError, match="catalog entry 1"):
        load_catalog({"model": [entry]})


def test_normalising_twice_changes_nothing_more():
    for logged in ("us.anthropic.claude-opus-4-5-20251101-v1:0", "Claude Opus 4.5 (thinking)"):
        assert normalised(normalised(logged)) == normalised(logged)
