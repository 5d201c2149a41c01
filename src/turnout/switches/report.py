"""The contents of the switch report."""

from __future__ import annotations

from dataclasses import dataclass

MODEL_BUCKETS = {"1": "one model", "2": "two models", "3+": "three or more"}


@dataclass(frozen=True, slots=True)
class Share:
    """How often something happened.

    Attributes:
        count: How many times.
        value: Share in [0, 1] of the times it could have.
        low: Lower end of the 95 % interval, clustered by conversation.
        high: Its upper end.
    """

    count: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Rate:
    """Switches of one stretch of turns or of time.

    Attributes:
        name: The stretch: a turn index or several, a date, an hour, a day of the week.
        turns: Turns on which a switch was possible: those with an earlier turn on a named model.
        switches: Those that people made.
        upgrades: Those of `switches` from fast to reasoning.
        downgrades: Those of `switches` from reasoning to fast.
        laterals: Those of `switches` within a class.
        fallbacks: Those that a product made.
    """

    name: str
    turns: int
    switches: Share
    upgrades: Share
    downgrades: Share
    laterals: Share
    fallbacks: Share


@dataclass(frozen=True, slots=True)
class SwitchKind:
    """Switches of one kind.

    Attributes:
        kind: upgrade (fast → reasoning), downgrade, lateral (same class), or unknown where a
            class is.
        count: How many.
        provider_switches: Of them, how many also change the provider.
        fallbacks: Of them, how many a product made rather than a person.
    """

    kind: str
    count: int
    provider_switches: int
    fallbacks: int


@dataclass(frozen=True, slots=True)
class FallbackCount:
    """Switches that a product made, of one kind.

    Attributes:
        kind: A code of `fallbacks.FALLBACKS`.
        reason: What it is.
        count: How many.
        by_kind: upgrade, downgrade, lateral or unknown → how many of them.
    """

    kind: str
    reason: str
    count: int
    by_kind: dict[str, int]


@dataclass(frozen=True, slots=True)
class ModelPair:
    """From one model to another.

    Attributes:
        from_model: Canonical name.
        from_class: reasoning, fast or unknown.
        to_model: Canonical name.
        to_class: As above.
        kind: As in `SwitchKind`.
        count: How often.
        fallbacks: Of them, how many a product made.
        rate: Share in [0, 1] of the turns on `from_model` that were followed by it.
    """

    from_model: str
    from_class: str
    to_model: str
    to_class: str
    kind: str
    count: int
    fallbacks: int
    rate: float


@dataclass(frozen=True, slots=True)
class SwitchMedians:
    """Medians around the switches of a kind that people made; None where there are none.

    Attributes:
        kind: As in `SwitchKind`.
        turns_before: Captured turns of the conversation before the switch.
        turns_after: Captured turns after the first one on the new model.
        chars_before: Length of the message before the switch.
        chars_at: Length of the first message to the new model.
        chars_after: Length of the message after that.
    """

    kind: str
    turns_before: float | None
    turns_after: float | None
    chars_before: float | None
    chars_at: float | None
    chars_after: float | None


@dataclass(frozen=True, slots=True)
class Example:
    """One switch that a person made, with the shortened messages around it.

    `first` is the first message to the new model.
    """

    kind: str
    conversation_id: str
    turn_index: int
    from_model: str
    to_model: str
    before: str | None
    first: str
    after: str | None


@dataclass(frozen=True, slots=True)
class SwitchReport:
    """How people use models.

    Attributes:
        turns: Rows of the log.
        turns_without_model: Of them, those that name no model (`auto`, `default`, nothing).
        unknown_models: Names that the catalog does not know, normalised → turns; never guessed.
        conversations: Those with at least one named model.
        by_models: Distinct models ("1", "2", "3+") → conversations.
        by_models_chosen: The same without models that served only as a fallback.
        turns_by_class: reasoning, fast or unknown → turns.
        switches: In order of `model_switches.KINDS`.
        fallbacks: In order of `fallbacks.FALLBACKS`.
        rate: Over the whole log.
        by_turn: By turn index of the first turn after the switch.
        by_date: By day, week or month (UTC); empty where the log has no times.
        date_unit: day, week or month; None where the log has no times.
        by_hour: By hour of the day, UTC.
        by_weekday: By day of the week, UTC.
        pairs: Most frequent first.
        medians: In order of `model_switches.KINDS`.
        examples: As many of each kind as were asked for.
        fresh: False where this report was there already.
    """

    turns: int
    turns_without_model: int
    unknown_models: dict[str, int]
    conversations: int
    by_models: dict[str, int]
    by_models_chosen: dict[str, int]
    turns_by_class: dict[str, int]
    switches: list[SwitchKind]
    fallbacks: list[FallbackCount]
    rate: Rate
    by_turn: list[Rate]
    by_date: list[Rate]
    date_unit: str | None
    by_hour: list[Rate]
    by_weekday: list[Rate]
    pairs: list[ModelPair]
    medians: list[SwitchMedians]
    examples: list[Example]
    fresh: bool = True

    @property
    def switch_count(self) -> int:
        """All switches, whoever made them."""
        return sum(kind.count for kind in self.switches)
