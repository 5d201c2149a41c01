"""What the gateway has to know before it can serve."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from turnout.records import ModelClass

ProtocolName = Literal["chat", "responses", "messages"]
PROTOCOLS: tuple[ProtocolName, ...] = ("chat", "responses", "messages")
_ENDPOINT = re.compile(r"/(chat/completions|completions|responses|messages|embeddings)/?$")
_KEY_IN_QUERY = re.compile(r"(^|&)[^=&]*(key|token|secret|password|sig)[^=&]*=", re.IGNORECASE)

_Text = Annotated[str, Field(min_length=1)]


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    """A relative path of a settings file is relative to the file, wherever the gateway starts."""
    return info.context / path if isinstance(info.context, Path) else path


def _upstream_url(url: str) -> str:
    """Refuse what would silently send requests, or a key, elsewhere than the user thinks."""
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise ValueError("an URL without a user name or password; put the key into api_key_env")
    if _KEY_IN_QUERY.search(parts.query):
        raise ValueError("an URL without a key in it; put the key into api_key_env")
    if parts.fragment or "#" in url:
        raise ValueError("an URL without '#'")
    if not parts.hostname:
        raise ValueError("an URL with a host, such as https://api.openai.com/v1")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("an URL with a port from 1 to 65535, or without one")
    if _ENDPOINT.search(parts.path):
        raise ValueError("an URL that ends before the endpoint, such as https://api.openai.com/v1")
    return url


def _session_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is not None:
        raise ValueError("an URL without a password; put it into sessions_password_env")
    return url


class Options(BaseModel):
    """Options that are checked when they are made: no unknown names, no conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Upstream(Options):
    """An HTTP endpoint that serves models the way OpenAI or Anthropic does."""

    url: Annotated[str, AfterValidator(_upstream_url)] = Field(
        pattern="^https?://.",
        description="Up to and with its version, such as https://api.openai.com/v1. A query, such "
        "as Azure's ?api-version=, is sent with every request.",
    )
    api_key_env: _Text | None = Field(
        default=None,
        description="Environment variable that holds its key; without it the caller's own key is "
        "passed on.",
    )
    api_key_header: Literal["authorization", "x-api-key", "api-key", "x-goog-api-key"] | None = (
        Field(
            default=None,
            description="Header that carries the key; by default x-api-key for Anthropic messages, "
            "else authorization.",
        )
    )
    needs_key: bool = Field(
        default=True,
        description="false: a server of your own that asks for no key; the caller's is not sent.",
    )
    protocols: tuple[ProtocolName, ...] = Field(
        default=PROTOCOLS,
        strict=False,
        min_length=1,
        description="What it speaks: chat, responses, messages.",
    )
    timeout_s: float = Field(
        default=600.0,
        ge=0.1,
        le=86_400,
        description="Longest silence before the request is given up.",
    )


class Target(Options):
    """Where a class goes."""

    upstream: _Text = Field(description="Name of one of the upstreams.")
    model: _Text = Field(description="What the upstream calls the model.")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Set in the request's body, over what the caller sent."
    )
    effort: _Text | None = Field(
        default=None,
        description="Reasoning effort, set as each protocol says it; none switches thinking off.",
    )
    drop: tuple[_Text, ...] = Field(
        default=(),
        strict=False,
        description="Parameters that the model refuses; they are not sent.",
    )
    rename: dict[str, str] = Field(
        default_factory=dict, description="Parameters that the model knows under another name."
    )
    stand_ins: tuple[Target, ...] = Field(
        default=(),
        strict=False,
        description="Targets of the same class that are tried in turn when this one fails, or "
        "where it does not speak the request's protocol.",
    )

    @property
    def name(self) -> str:
        """How the target is called in headers and in the journal."""
        return f"{self.upstream}/{self.model}" + (f":{self.effort}" if self.effort else "")


class NamedModel(Options):
    """A model that callers may ask for by name, beside the targets."""

    upstream: _Text = Field(description="Name of one of the upstreams.")
    model: _Text | None = Field(
        default=None, description="What the upstream calls it; by default the same."
    )


class Caller(Options):
    """Someone who may use the gateway."""

    name: _Text = Field(description="How the journal calls the caller.")
    key_sha256: str = Field(
        pattern="^[0-9a-fA-F]{64}$",
        description="SHA-256 of the caller's key: printf %s KEY | sha256sum.",
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, description="More are refused with 429; by default no limit."
    )


class FrontDoor(Options):
    """How callers reach the gateway, and what it keeps of them."""

    host: _Text = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8080, ge=0, le=65_535, description="TCP port; 0 takes a free one.")
    model_name: _Text = Field(
        default="turnout",
        description="The model that callers ask for to have their messages routed.",
    )
    default_class: ModelClass = Field(
        default="reasoning",
        description="Where a message goes that the router cannot read, such as an image alone.",
    )
    passthrough: bool = Field(
        default=False,
        description="true: a model that is not in this file goes unrouted to the first upstream.",
    )
    shadow: bool = Field(
        default=False,
        description="true: every message is decided and journalled, and goes to the target of "
        "default_class all the same.",
    )
    exploration_share: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Share of scored messages that go to the other class, so that policies can be "
        "compared from the journal.",
    )
    request_overrides: bool = Field(
        default=False,
        description="true: x-turnout-threshold and x-turnout-policy of a request are followed.",
    )
    allowed_origins: tuple[str, ...] = Field(
        default=(), strict=False, description="Origins of web pages that may call the gateway."
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Names under which the gateway may be called, beside those of this machine.",
    )
    max_body_mb: float = Field(
        default=64.0, gt=0, le=1024, description="Larger requests are refused with 413."
    )
    sessions_url: (
        Annotated[
            str, Field(pattern="^(redis|rediss|valkey|unix)://"), AfterValidator(_session_url)
        ]
        | None
    ) = Field(
        default=None,
        description="Redis or Valkey that remembers conversations, such as redis://127.0.0.1:6379; "
        "by default this process does.",
    )
    sessions_password_env: _Text | None = Field(
        default=None, description="Environment variable that holds its password."
    )
    session_lifetime_s: float = Field(
        default=7 * 86_400.0,
        gt=0,
        description="Seconds without a request after which a conversation is forgotten.",
    )
    journal: Annotated[Path, Field(strict=False), AfterValidator(_beside_the_file)] | None = Field(
        default=None,
        description="Folder of the journal, relative to the settings file; without it none is "
        "written.",
    )
    journal_text: Literal["on", "hashed", "off"] = Field(
        default="on",
        description="Whether the journal holds what was written, a hash of it, or neither.",
    )
    journal_max_mb: float = Field(
        default=10_240.0, gt=0, description="Most that the journal takes; the oldest files go."
    )
    journal_max_days: float = Field(
        default=365.0, gt=0, description="Age after which a file of the journal goes."
    )


class GatewayOptions(FrontDoor):
    """How to serve.

    Attributes:
        upstreams: By name.
        targets: One for each class, with those that stand in for it.
        models: Models that callers may ask for by name.
        callers: Who may use the gateway; empty lets everybody who reaches it.
    """

    upstreams: Mapping[str, Upstream]
    targets: Mapping[ModelClass, Target]
    models: Mapping[str, NamedModel] = Field(default_factory=dict)
    callers: tuple[Caller, ...] = ()

    def targets_of(self, model_class: ModelClass) -> tuple[Target, ...]:
        """The targets of a class, in the order in which they are tried."""
        first = self.targets[model_class]
        return (first, *first.stand_ins)

    def all_targets(self) -> list[tuple[ModelClass, Target]]:
        """Every target with its class."""
        return [(name, target) for name in self.targets for target in self.targets_of(name)]
