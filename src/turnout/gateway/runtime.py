"""Everything that serves requests, made once from router and settings, and swapped whole."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from turnout.errors import SettingsError
from turnout.gateway.callers import Callers
from turnout.gateway.conversations import Conversations
from turnout.gateway.decide import Decider
from turnout.gateway.forward import Forwarder
from turnout.gateway.journal import Journal
from turnout.gateway.options import GatewayOptions
from turnout.records import ModelClass
from turnout.routing import Router
from turnout.routing.sessions import MemorySessions, SessionStore


@dataclass(frozen=True, slots=True)
class Runtime:
    """What serves requests.

    Attributes:
        router: Scores and holds the policy.
        options: The settings.
        forwarder: Sends requests to upstreams.
        conversations: What is remembered.
        decider: Decides requests.
        callers: Who may use the gateway.
        journal: Where records go; None writes none.
        classes: Identity of a target → its class.
    """

    router: Router
    options: GatewayOptions
    forwarder: Forwarder
    conversations: Conversations
    decider: Decider
    callers: Callers
    journal: Journal | None
    classes: Mapping[int, ModelClass]


def runtime_of(router: Router, options: GatewayOptions, before: Runtime | None = None) -> Runtime:
    """Make a runtime; of the one before, conversations and journal go on where they may.

    Raises:
        SettingsError: If an upstream's key is missing or cannot be one.
        StorageError: If the journal cannot be written.
    """
    forwarder = Forwarder(options)
    callers = Callers(options.callers)
    conversations = _conversations(options, before)
    return Runtime(
        router,
        options,
        forwarder,
        conversations,
        Decider(router, options, conversations),
        callers,
        _journal(options, before),
        {id(target): model_class for model_class, target in options.all_targets()},
    )


def _conversations(options: GatewayOptions, before: Runtime | None) -> Conversations:
    if before is not None and _session_settings(before.options) == _session_settings(options):
        return before.conversations
    return Conversations(session_store(options))


def _session_settings(options: GatewayOptions) -> tuple[object, ...]:
    return options.sessions_url, options.sessions_password_env, options.session_lifetime_s


def session_store(options: GatewayOptions) -> SessionStore:
    """Where the settings say that conversations are remembered.

    Raises:
        SettingsError: If the store's password or its client is missing.
    """
    if options.sessions_url is None:
        return MemorySessions(lifetime_s=options.session_lifetime_s)
    password = None
    if options.sessions_password_env:
        password = os.environ.get(options.sessions_password_env)
        if not password:
            raise SettingsError(
                f"gateway.sessions_password_env: the environment has no "
                f"{options.sessions_password_env}; expected the password there. Set it."
            )
    try:
        from turnout.gateway.redis_sessions import RedisSessions
    except ImportError as error:
        raise SettingsError(
            "gateway.sessions_url: the Redis client is not installed. Install it with: "
            "pip install 'turnout[redis]'."
        ) from error

    return RedisSessions(options.sessions_url, password, options.session_lifetime_s)


def _journal(options: GatewayOptions, before: Runtime | None) -> Journal | None:
    if before is not None and _journal_settings(before.options) == _journal_settings(options):
        return before.journal
    if options.journal is None:
        return None
    return Journal(
        options.journal,
        text=options.journal_text,
        max_mb=options.journal_max_mb,
        max_days=options.journal_max_days,
    )


def _journal_settings(options: GatewayOptions) -> tuple[object, ...]:
    return (
        options.journal, options.journal_text, options.journal_max_mb, options.journal_max_days
    )  # fmt: skip
