"""The options, the cost estimate and the report of a judge run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from turnout.catalog import Price


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """Which model to ask, about which turns, and at what cost.

    Attributes:
        base_url: The endpoint, up to and with its version.
        model: As the endpoint names it.
        api_key: None where it needs none; never stored.
        sample: Turns to judge, drawn evenly; None for all.
        seed: Decides which turns, and the order.
        max_usd: The most that all questions of this output may cost, including killed and resumed
            runs; None for no limit.
        timeout_s: How long one attempt may wait for the endpoint.
        concurrency: Questions in flight at once, at least 1.
        price: What the model costs; None where it is not known.
        redact: Applied to every text that is sent.
    """

    base_url: str
    model: str
    api_key: str | None = None
    sample: int | None = None
    seed: int = 0
    max_usd: float | None = None
    timeout_s: float = 120.0
    concurrency: int = 8
    price: Price | None = None
    redact: Callable[[str], str] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What a run will cost.

    Attributes:
        turns: Turns to judge.
        questions: Different questions among them.
        answered: Of those, already answered by earlier runs.
        prompt_tokens: To be sent, roughly.
        usual_usd: The likely cost; None where no price is known.
        most_usd: The cost if every answer is as long as it may be, without retries.
        spent_usd: What these questions have cost in earlier runs.
    """

    turns: int
    questions: int
    answered: int
    prompt_tokens: int
    usual_usd: float | None
    most_usd: float | None
    spent_usd: float


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """The questions asked, the answers and their cost.

    Attributes:
        turns: Turns chosen.
        statuses: judged, or why not → turns; "not asked" where the budget ended first.
        needs: 1 to 5 → turns.
        questions: Different questions.
        asked: Of them, those asked in this run.
        spent_usd: What all of them have cost, including earlier runs; attempts that may have been
            billed count at their bound. None without a price.
        max_usd: The limit.
        rubric: Its version.
        fresh: False where an earlier run on the same input was there.
    """

    turns: int
    statuses: dict[str, int]
    needs: dict[str, int]
    questions: int
    asked: int
    spent_usd: float | None
    max_usd: float | None
    rubric: str
    fresh: bool = True

    @property
    def complete(self) -> bool:
        """Whether another run would have nothing to ask."""
        return not self.statuses.get("failed") and not self.statuses.get("not asked")
