"""Which turns are scored, and which stay on the class they had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from turnout.errors import SettingsError
from turnout.records import ModelClass
from turnout.routing.sessions import Session

PolicyName = Literal["session", "conversation", "boundary", "fixed"]


@dataclass(frozen=True, slots=True)
class Policy:
    """When a turn is scored anew.

    Attributes:
        name: `session` scores the first message and stays; `conversation` scores every turn;
            `boundary` scores again only when the upstream's prompt cache is cold anyway; `fixed`
            scores nothing.
        cache_lifetime_s: Idle seconds after which a prompt cache is taken as cold (`boundary`).
        fixed_class: The class of `fixed`.
    """

    name: PolicyName
    cache_lifetime_s: float = 300.0
    fixed_class: ModelClass = "reasoning"

    def __post_init__(self) -> None:
        if self.name not in get_args(PolicyName):
            raise SettingsError(
                f"policy: found {self.name!r}; expected one of {', '.join(get_args(PolicyName))}."
            )

    def stay(self, state: Session | None, now_s: float) -> str | None:
        """Why the turn stays on the class of `state` without being scored; None to score it."""
        if state is None or self.name == "conversation":
            return None
        if self.name == "session":
            return f"the session policy keeps the class chosen at turn {state.chosen_at_turn}"
        idle_s = now_s - state.decided_at_s
        if self.name == "boundary" and idle_s < self.cache_lifetime_s:
            return (
                f"idle for {idle_s:.0f} s, under the prompt cache's {self.cache_lifetime_s:.0f} s: "
                "switching now would lose the cache"
            )
        return None
