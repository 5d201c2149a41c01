"""Turnout: learn from your own conversation logs which messages need a reasoning model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnout.errors import TurnoutError
from turnout.records import Decision, Turn

if TYPE_CHECKING:
    from pathlib import Path

    from turnout.routing.router import Router

__all__ = ["Decision", "Turn", "TurnoutError", "load"]


def load(folder: str | Path) -> Router:
    """Open a router folder, ready to decide.

    Args:
        folder: What `turnout train` wrote.

    Returns:
        The router; `router.decide(messages, conversation_id=…)` gives a `Decision`.

    Raises:
        ArtifactError: If the folder is absent, altered, or newer than this version.
    """
    from turnout.routing.router import Router  # onnxruntime loads here, not at `import turnout`

    return Router.from_folder(folder)
