"""Moves scores between two populations: the data set's training rows, and the log."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

from turnout.errors import ArtifactError, SettingsError
from turnout.records import Population


@dataclass(frozen=True, slots=True)
class Priors:
    """The share of messages that need reasoning, in each population.

    Stored as `"priors"` in `dataset.json` and `router.json`.

    Attributes:
        balanced: Weighted share among the data set's training rows, in (0, 1).
        log: Weighted share among all labelled turns of the log, in (0, 1); None where the rows do
            not come from a log.
    """

    balanced: float = 0.5
    log: float | None = None

    @property
    def default(self) -> Population:
        """The population of scores unless another is asked for."""
        return "balanced" if self.log is None else "log"

    @property
    def default_share(self) -> float:
        """The share of reasoning in that population."""
        return self.balanced if self.log is None else self.log

    def shift(self, population: Population) -> float:
        """The number to add to the log-odds of a score for balanced rows.

        Raises:
            SettingsError: If the share of reasoning in that population is not known.

        Source:
            Saerens, Latinne and Decaestecker (2002), "Adjusting the outputs of a classifier to new
            a priori probabilities", equation 2.4.
        """
        if population not in get_args(Population):
            raise SettingsError(f"population: found {population!r}; expected balanced or log.")
        if population == "balanced":
            return 0.0
        if self.log is None:
            raise SettingsError(
                "population: found log; expected balanced: the router does not know the share of "
                "reasoning in a log. Ask for balanced, or build from a log and train again."
            )
        return _logit(self.log) - _logit(self.balanced)

    def converted(self, probability: float, of: Population, to: Population) -> float:
        """A probability or threshold for one population, converted to another; 0 and 1 stay."""
        if of == to or probability in (0.0, 1.0):
            return probability
        return _expit(_logit(probability) - self.shift(of) + self.shift(to))

    def of(self, population: Population) -> float | None:
        """The share of reasoning in a population."""
        return self.balanced if population == "balanced" else self.log

    def to_json(self) -> dict[str, float | None]:
        """As it is stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: object, where: str) -> Priors:
        """Read what `to_json` wrote; None, from folders of earlier versions, gives the defaults.

        Raises:
            ArtifactError: If a share is missing or not between 0 and 1; `where` names the file.
        """
        if stored is None:
            return cls()
        priors: Mapping[str, Any] = stored if isinstance(stored, Mapping) else {}
        balanced: Any = priors.get("balanced")
        log: Any = priors.get("log")
        if not is_share(balanced) or (log is not None and not is_share(log)):
            raise ArtifactError(
                f"{where}: priors are {stored!r}; expected balanced, and log or null, each more "
                "than 0 and less than 1. Build and train again."
            )
        return cls(float(balanced), None if log is None else float(log))


def is_share(value: object) -> bool:
    """Whether a stored value is a number strictly between 0 and 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1


def _logit(probability: float) -> float:
    return math.log(probability) - math.log1p(-probability)


def _expit(log_odds: float) -> float:
    if log_odds < 0:
        odds = math.exp(log_odds)
        return odds / (1.0 + odds)
    return 1.0 / (1.0 + math.exp(-log_odds))
