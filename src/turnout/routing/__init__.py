"""Deciding: what a message looks like to the encoder, its score, and where it goes.

The one room every stage may enter. Knows no table engine, no trainer and no web library.
"""

from __future__ import annotations

from turnout.routing.folder import RouterFolder, RouterSpec
from turnout.routing.formatter import FORMATTER_VERSION, Formatter
from turnout.routing.router import Router
from turnout.routing.transcript import turns_of

__all__ = [
    "FORMATTER_VERSION",
    "Formatter",
    "Router",
    "RouterFolder",
    "RouterSpec",
    "turns_of",
]
