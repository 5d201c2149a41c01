"""What would surprise whoever serves with these settings."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from turnout.errors import SettingsError
from turnout.gateway.forward import is_loopback
from turnout.gateway.options import GatewayOptions
from turnout.routing import Router
from turnout.routing.policies import PricedPolicy

_VERSION = re.compile(r"/v\d|/openai|/api|/compatible-mode")


def surprises(router: Router, options: GatewayOptions, own_threshold: float) -> list[str]:
    """What is allowed and probably not meant, one sentence each.

    Args:
        router: As it would serve.
        options: Of the settings.
        own_threshold: The router folder's, for the population shown.
    """
    return [
        *_of_upstreams(options),
        *_of_targets(options),
        *_of_router(router, own_threshold),
        *_of_door(options),
    ]


def missing_keys(options: GatewayOptions) -> list[str]:
    """Environment variables that the settings name and that are not set."""
    named = [upstream.api_key_env for upstream in options.upstreams.values()]
    named.append(options.sessions_password_env)
    return [name for name in dict.fromkeys(named) if name and not os.environ.get(name)]


def _of_upstreams(options: GatewayOptions) -> list[str]:
    notes = []
    used = {target.upstream for _, target in options.all_targets()}
    used |= {model.upstream for model in options.models.values()}
    for name, upstream in options.upstreams.items():
        parts = urlsplit(upstream.url)
        if not _VERSION.search(parts.path):
            notes.append(
                f"[upstreams.{name}] url: {upstream.url} has no version; requests go to "
                f"{upstream.url.rstrip('/')}/chat/completions. Most servers expect /v1 before that."
            )
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            notes.append(f"[upstreams.{name}] url: keys and messages travel unencrypted (http).")
        if name not in used:
            notes.append(f"[upstreams.{name}]: no target and no model uses it.")
    return notes


def _of_targets(options: GatewayOptions) -> list[str]:
    reasoning, fast = options.targets["reasoning"], options.targets["fast"]
    if (reasoning.upstream, reasoning.model) != (fast.upstream, fast.model):
        return []
    if (reasoning.parameters, reasoning.effort) != (fast.parameters, fast.effort):
        return []
    return [
        f"[targets]: both classes go to {fast.model} with the same parameters, so a decision "
        "changes nothing. Set effort, or parameters, for each."
    ]


def _of_router(router: Router, own_threshold: float) -> list[str]:
    notes = []
    # A conversation router was trained on first messages too, so the session policy suits it.
    is_session_router = router.folder.spec.formatter.architecture == "session"
    if is_session_router and router.policy.name == "conversation":
        notes.append(
            "[router] policy: conversation, but the router was trained to decide for session: it "
            "reads the first message at every turn."
        )
    if (
        isinstance(router.policy, PricedPolicy)
        and router.population != "log"
        and not router.policy.score_shift
    ):
        notes.append(
            "[router] policy: priced multiplies scores with prices, but the scores are for a "
            "balanced data set, and the router does not know which share of a log needs "
            "reasoning. Build a data set from a log and train again."
        )
    if router.threshold != own_threshold:
        notes.append(
            f"[router] threshold: {router.threshold:g} is served, not the router folder's "
            f"{own_threshold:g}."
        )
    return notes


def _of_door(options: GatewayOptions) -> list[str]:
    notes = []
    if options.journal is None:
        notes.append("[gateway] journal: none is written, so nothing can be learnt from traffic.")
    if options.shadow:
        notes.append(
            f"[gateway] shadow: every message goes to {options.default_class}; nothing is routed."
        )
    if options.exploration_share:
        notes.append(
            f"[gateway] exploration_share: {options.exploration_share:.1%} of scored messages go "
            "to the class that was not chosen."
        )
    if "*" in options.allowed_origins and not options.callers:
        notes.append("[gateway] allowed_origins: any web page may spend your keys.")
    return notes


def refuse_missing_keys(options: GatewayOptions) -> None:
    """Refuse settings whose keys are not in the environment, all at once.

    Raises:
        SettingsError: If one is missing.
    """
    missing = missing_keys(options)
    if missing:
        raise SettingsError(
            f"the environment has no {', '.join(missing)}; expected the keys that the settings "
            "name there. Set them."
        )
