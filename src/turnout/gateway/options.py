"""What the gateway has to know before it can serve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from turnout.records import ModelClass

_Text = Annotated[str, Field(min_length=1)]


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    """A relative path of a settings file is relative to the file, wherever the gateway starts."""
    return info.context / path if isinstance(info.context, Path) else path


class Options(BaseModel):
    """Options that are checked when they are made: no unknown names, no conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Upstream(Options):
    """An HTTP endpoint that serves models the way OpenAI does."""

    url: str = Field(
        pattern="^https?://.",
        description="Up to and with its version, such as https://api.openai.com/v1.",
    )
    api_key_env: _Text | None = Field(
        default=None,
        description="Environment variable that holds its key; without it the caller's own "
        "Authorization header is passed on.",
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


class FrontDoor(Options):
    """How callers reach the gateway, and what it keeps of them."""

    host: _Text = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8080, ge=0, le=65_535, description="TCP port; 0 takes a free one.")
    model_name: _Text = Field(
        default="turnout",
        description="The model that callers ask for to have their messages routed.",
    )
    journal: Annotated[Path, Field(strict=False), AfterValidator(_beside_the_file)] | None = Field(
        default=None,
        description="Folder of the journal, relative to the settings file; without it none is "
        "written.",
    )


class GatewayOptions(FrontDoor):
    """How to serve.

    Attributes:
        upstreams: By name.
        targets: One for each class.
    """

    upstreams: Mapping[str, Upstream]
    targets: Mapping[ModelClass, Target]
