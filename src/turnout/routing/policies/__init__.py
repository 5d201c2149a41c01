"""Policies: which class serves a turn. Pure functions, without a clock, a network or a store.

A `Situation` goes in and a `Choice` comes out; see docs/policies.md.
"""

from __future__ import annotations

from turnout.catalog import Price
from turnout.routing.policies.choice import Choice, Lock
from turnout.routing.policies.costs import Target
from turnout.routing.policies.named import POLICY_NAMES, Policy, PolicyName, policy_of
from turnout.routing.policies.priced import PricedPolicy
from turnout.routing.policies.situation import Situation
from turnout.routing.policies.turns_left import TurnsLeft
from turnout.routing.policies.unpriced import (
    BoundaryPolicy,
    ConversationPolicy,
    FixedPolicy,
    SessionPolicy,
)
from turnout.routing.sessions import CachedPrompt, Session

# The name of a price in code that was written for earlier versions.
TokenPrices = Price

__all__ = [
    "POLICY_NAMES",
    "BoundaryPolicy",
    "CachedPrompt",
    "Choice",
    "ConversationPolicy",
    "FixedPolicy",
    "Lock",
    "Policy",
    "PolicyName",
    "Price",
    "PricedPolicy",
    "Session",
    "SessionPolicy",
    "Situation",
    "Target",
    "TokenPrices",
    "TurnsLeft",
    "policy_of",
]
