"""Policies by name."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

from turnout.errors import SettingsError
from turnout.records import ModelClass
from turnout.routing.policies.choice import Choice
from turnout.routing.policies.priced import PricedPolicy
from turnout.routing.policies.situation import Situation
from turnout.routing.policies.unpriced import (
    DEFAULT_CACHE_LIFETIME_S,
    BoundaryPolicy,
    ConversationPolicy,
    FixedPolicy,
    SessionPolicy,
)

PolicyName = Literal["session", "conversation", "boundary", "fixed", "priced"]
POLICY_NAMES: tuple[PolicyName, ...] = get_args(PolicyName)


class Policy(Protocol):
    """Chooses a class for a turn; the same situation always gives the same choice."""

    @property
    def name(self) -> PolicyName:
        """The policy's name in settings, headers and reports."""

    def choose(self, situation: Situation) -> Choice:
        """The class that serves a turn, and why."""


def policy_of(
    name: str,
    *,
    cache_lifetime_s: float = DEFAULT_CACHE_LIFETIME_S,
    fixed_class: ModelClass = "reasoning",
    priced: PricedPolicy | None = None,
) -> Policy:
    """The policy of a name.

    Args:
        name: One of `POLICY_NAMES`.
        cache_lifetime_s: Of `boundary`.
        fixed_class: Of `fixed`.
        priced: The policy for `priced`; by default one without a price of a miss.

    Raises:
        SettingsError: If there is no such policy.
    """
    policies: dict[str, Policy] = {
        "session": SessionPolicy(),
        "conversation": ConversationPolicy(),
        "boundary": BoundaryPolicy(cache_lifetime_s),
        "fixed": FixedPolicy(fixed_class),
        "priced": priced or PricedPolicy(),
    }
    if name not in policies:
        raise SettingsError(f"policy: found {name!r}; expected one of {', '.join(POLICY_NAMES)}.")
    return policies[name]
