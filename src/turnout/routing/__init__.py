"""Deciding: what a message looks like to the encoder, its score, and where it goes.

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
