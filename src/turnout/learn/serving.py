"""The settings file that serves what was learnt."""

from __future__ import annotations

import json
from collections.abc import Mapping

from turnout.learn.models import ModelUse
from turnout.learn.summary import Advice
from turnout.records import ModelClass
from turnout.routing.policies import TurnsLeft

# Provider → its endpoint, and where its key is looked for.
_ENDPOINTS = {
    "anthropic": ("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    "openai": ("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "google": ("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "deepseek": ("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "mistral": ("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "xai": ("https://api.x.ai/v1", "XAI_API_KEY"),
}
_OWN = ("https://models.example.com/v1", "MODELS_API_KEY")


def settings_text(
    advice: Advice, models: Mapping[ModelClass, ModelUse], turns_left: TurnsLeft
) -> str:
    """turnout.toml: upstreams, targets, policy and threshold.

    Args:
        advice: What is recommended.
        models: Class → the model that it goes to.
        turns_left: Of the log's conversations, which `priced` was replayed with.
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
    if advice.policy is not None and advice.threshold is not None:
        lines += [
            "[router]",
            f"policy = {json.dumps(advice.policy)}",
            f"threshold = {advice.threshold:.6f}",
            *([f"turns_left = {_rounded(turns_left)}"] if advice.policy == "priced" else []),
            "",
        ]
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
    lines += [
        "[gateway]",
        "port = 8080",
        'journal = "journal"',
        "# shadow = true    # decide and write down, but route nothing: for the first week",
        "",
    ]
    return "\n".join(lines)


def _rounded(turns_left: TurnsLeft) -> list[float]:
    return [max(1.0, round(each, 2)) for each in turns_left.by_turn]
