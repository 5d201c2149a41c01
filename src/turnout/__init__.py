"""Turnout: learn from your own conversation logs which messages need a reasoning model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnout.errors import TurnoutError
from turnout.records import Decision, Turn

if TYPE_CHECKING:
    from pathlib import Path

    from turnout.api import Data, Split, from_outcomes, from_turns
    from turnout.api.classifier import RouterClassifier
    from turnout.api.evaluation import Evaluation, choose_threshold, evaluate
    from turnout.records import Population
    from turnout.routing.router import Router

    __version__: str

__all__ = [
    "Data",
    "Decision",
    "Evaluation",
    "RouterClassifier",
    "Split",
    "Turn",
    "TurnoutError",
    "choose_threshold",
    "evaluate",
    "from_outcomes",
    "from_turns",
    "load",
]

# Loaded when first asked for: what they need takes seconds, and is not in every install.
_IN_API = {
    "Data": "data",
    "Evaluation": "evaluation",
    "RouterClassifier": "classifier",
    "Split": "data",
    "choose_threshold": "evaluation",
    "evaluate": "evaluation",
    "from_outcomes": "data",
    "from_turns": "data",
}


# Type checkers know the names from above, and so refuse others.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version

            return version("turnout")
        if name in _IN_API:
            from importlib import import_module

            return getattr(import_module(f"turnout.api.{_IN_API[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def load(folder: str | Path, population: Population | None = None) -> Router:
    """Open a router folder, ready to decide.

    Args:
        folder: What `turnout train` wrote.
        population: Whose probabilities decisions show: `log`, the log that the router was trained
            from, or `balanced`, the data set's rows. By default `log` where the router knows the
            log's share of reasoning. Which messages go where does not depend on it.

    Returns:
        The router; `router.decide(messages, conversation_id=…)` gives a `Decision`.

    Raises:
        ArtifactError: If the folder is absent, altered, or newer than this version.
        SettingsError: If the log is asked for and its share of reasoning is not known.
    """
    from turnout.routing.router import Router  # onnxruntime loads here, not at `import turnout`

    return Router.from_folder(folder, population)
