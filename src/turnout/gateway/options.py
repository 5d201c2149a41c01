"""What the gateway needs to be told; knows no file format and no web library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from turnout.records import ModelClass

DEFAULT_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Upstream:
    """An HTTP endpoint that serves models the way OpenAI does.

    Attributes:
        name: For messages.
        url: Up to and with its version, such as `https://api.openai.com/v1`.
        api_key_env: Environment variable that holds its key; None passes the caller's own
            Authorization header on.
        timeout_s: Longest silence before the request is given up.
    """

    name: str
    url: str
    api_key_env: str | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Target:
    """Where a class goes.

    Attributes:
        upstream: Name of the upstream.
        model: What the upstream calls the model.
        parameters: Set in the request's body, over what the caller sent.
    """

    upstream: str
    model: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """How to serve.

    Attributes:
        upstreams: By name.
        targets: One for each class.
        host: Address to listen on; by default this machine alone.
        port: TCP port; 0 takes a free one.
        model_name: The model that callers ask for to have their messages routed.
        journal: Folder of the journal; None writes none.
    """

    upstreams: Mapping[str, Upstream]
    targets: Mapping[ModelClass, Target]
    host: str = "127.0.0.1"
    port: int = 8080
    model_name: str = "turnout"
    journal: Path | None = None
