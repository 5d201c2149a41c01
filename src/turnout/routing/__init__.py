"""Deciding: the encoder's input for a message, its score, and the class it goes to.

The one package that every stage may import.
"""

from __future__ import annotations

from turnout.routing.folder import RouterFolder, RouterSpec
from turnout.routing.formatter import FORMATTER_VERSION, Formatter
from turnout.routing.population import Priors
from turnout.routing.router import Router

__all__ = [
    "FORMATTER_VERSION",
    "Formatter",
    "Priors",
    "Router",
    "RouterFolder",
    "RouterSpec",
]
