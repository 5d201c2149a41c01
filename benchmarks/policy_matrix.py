"""The published policy matrix, rebuilt from its description: references, bounds and `priced`.

    python benchmarks/policy_matrix.py            # figures on the published seeds
    python benchmarks/policy_matrix.py --choose   # choose the dials of `priced` on other seeds

The workload is that of vllm-project/semantic-router, bench/agentic_routing_experiment.py at commit
125179f (2026-08-22): six scenarios, five seeds, forty sessions of eighteen turns. Nothing of its
code is used. `priced` runs through turnout.routing.policies and sees a turn's score, tokens, caches
and prices; of the scenario it sees nothing.
"""

from __future__ import annotations

import argparse
import functools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

from turnout.catalog import Price
from turnout.routing.policies import (
    CachedPrompt,
    PricedPolicy,
    Session,
    Situation,
    Target,
)

PUBLISHED_SEEDS = tuple(range(20260530, 20260535))
CHOOSING_SEEDS = tuple(range(1, 6))
SESSIONS, TURNS = 40, 18
SMALL, MIDDLE, FRONTIER = "8b", "32b", "frontier"
QUALITY = {SMALL: 0.64, MIDDLE: 0.78, FRONTIER: 0.94}
# USD for a million tokens: input, output, cached input.
PRICES = {SMALL: (0.05, 0.10, 0.01), MIDDLE: (0.30, 0.60, 0.06), FRONTIER: (8.0, 24.0, 1.20)}
FRONTIER_NEED, MIDDLE_NEED = 0.78, 0.55
LARGEST_PRICE_GAP = 6.80
# Chosen with --choose.
MISS_USD = 0.222


@dataclass(frozen=True)
class Scenario:
    """How demand, turns and prompts of a scenario run."""

    name: str
    demand: tuple[float, float, float, float, float]  # base, slope, bonus, wave, noise
    cycle: int
    tool: tuple[int, ...]  # places of the cycle that are tool calls
    first_history: tuple[int, int]  # tokens, drawn between
    growth: float
    prior: int
    idle: tuple[int, ...] | None = ()  # turns after a pause; None: one turn, drawn


_BALANCED, _TOOL = (0.42, 0.28, 0.16, 0.18, 0.09), (0.55, 0.22, 0.18, 0.14, 0.08)
_IDLE, _FRONTIER = (0.42, 0.30, 0.14, 0.16, 0.10), (0.55, 0.34, 0.20, 0.17, 0.07)
_STATEFUL, _DRIFT = (0.58, 0.30, 0.24, 0.15, 0.08), (0.46, 0.28, 0.26, 0.12, 0.08)
SCENARIOS = (
    Scenario("balanced", _BALANCED, 5, (2, 3), (512, 2048), 1.0, 6, None),
    Scenario("tool-heavy", _TOOL, 6, (2, 3, 4), (1024, 3072), 1.12, 9, None),
    Scenario("frontier-heavy", _FRONTIER, 5, (2, 3), (1536, 4096), 1.20, 10),
    Scenario("idle-heavy", _IDLE, 5, (2, 3), (512, 2048), 1.0, 4, (5, 10, 15)),
    Scenario("stateful-heavy", _STATEFUL, 6, (3, 4), (128, 1024), 0.95, 3),
    Scenario("drift-heavy", _DRIFT, 6, (3,), (2048, 6144), 1.08, 7),
)
# Scenario → places of a cycle that hold state, or where the topic drifts.
STATE = {"stateful-heavy": (5, (1, 2))}
DRIFT = {"drift-heavy": (6, (1, 2))}


@dataclass(frozen=True)
class Turn:
    """One turn of the workload; no policy changes it."""

    index: int  # 0-based
    phase: str  # user, tool, state, drift
    idle: bool
    demand: float
    history: int
    prompt: int
    output: int
    prior: int

    @property
    def need(self) -> str:
        """The smallest model that does."""
        if self.demand >= FRONTIER_NEED:
            return FRONTIER
        return MIDDLE if self.demand >= MIDDLE_NEED else SMALL

    @property
    def locked(self) -> bool:
        """Whether a switch is unsafe here."""
        return self.phase in ("tool", "state")

    def cache_share(self, model: str, switched: bool = False) -> float:
        """Share of the prompt that the workload reads from the cache."""
        share = min(max(self.history / 48_000, 0.5), 0.72)
        share += {"tool": 0.12, "state": 0.08}.get(self.phase, 0.0)
        share += 0.06 if model == FRONTIER else 0.0
        return min(share * (0.2 if switched else 1.0), 0.85)

    def cost(self, model: str, cached_tokens: int) -> float:
        """What the turn costs, in USD."""
        plain, output, cached = PRICES[model]
        usd = cached_tokens * cached + (self.prompt - cached_tokens) * plain + self.output * output
        return round(usd / 1e6, 8)


def phase_of(scenario: Scenario, turn: int) -> str:
    """Drift goes before state, state before tool."""
    for phase, places in (("drift", DRIFT), ("state", STATE)):
        cycle, slots = places.get(scenario.name, (1, ()))
        if turn % cycle in slots:
            return phase
    return "tool" if turn % scenario.cycle in scenario.tool else "user"


def sessions_of(seeds: Sequence[int]) -> list[list[Turn]]:
    """The sessions of every scenario."""
    return [s for scenario in SCENARIOS for seed in seeds for s in _sessions(scenario, seed)]


def _sessions(scenario: Scenario, seed: int) -> Iterator[list[Turn]]:
    draw = random.Random(seed)
    base, slope, bonus, wave, noise = scenario.demand
    for _ in range(SESSIONS):
        history = draw.randint(*scenario.first_history)
        idle = (draw.choice((0, 9, 19)),) if scenario.idle is None else scenario.idle
        turns = []
        for t in range(TURNS):
            phase = phase_of(scenario, t)
            demand = base + slope * t / 17 + wave * math.sin(math.pi * t / 4)
            demand += (bonus if phase != "user" else 0.0) + draw.uniform(-noise, noise)
            demand = min(max(demand, 0.0), 1.0)
            prompt, output = 800 + history, 220 + math.floor(180 * demand)
            turns.append(Turn(t, phase, t in idle, demand, history, prompt, output, scenario.prior))
            history = min(64_000, history + math.floor((prompt // 8 + output) * scenario.growth))
        yield turns


Chooser = Callable[[Turn, str, int], str]
"""The turn, the model of the turn before and the switches so far → the model."""


@dataclass(frozen=True)
class Outcome:
    """What a policy did on the workload."""

    switches: float
    unsafe: float
    usd: float
    uncached_usd: float
    strict_usd: float
    quality: float
    strict_quality: float
    under: float


def judged(sessions: Sequence[list[Turn]], choose: Chooser) -> Outcome:
    """Walk every session under a policy."""
    switches = unsafe = turns = under = 0
    usd = uncached = strict = quality = strict_quality = 0.0
    for session in sessions:
        current, made = SMALL, 0
        held: dict[str, int] = {}
        for turn in session:
            model = choose(turn, current, made)
            switched = model != current
            made += switched
            unsafe += switched and turn.locked
            if turn.idle:
                held = {}
            usd += turn.cost(model, math.floor(turn.prompt * turn.cache_share(model, switched)))
            uncached += turn.cost(model, 0)
            strict += turn.cost(model, min(held.get(model, 0), turn.prompt))
            held[model] = turn.prompt
            needed = QUALITY[turn.need]
            quality += QUALITY[model]
            strict_quality += min(QUALITY[model], needed) - needed
            under += QUALITY[model] < needed
            turns, current = turns + 1, model
        switches += made
    return Outcome(
        switches,
        unsafe,
        usd,
        uncached,
        strict,
        quality / turns,
        strict_quality / turns,
        under / turns,
    )


def single_turn(turn: Turn, current: str, switches: int) -> str:
    """The need, at every turn."""
    return turn.need


def sticky(turn: Turn, current: str, switches: int) -> str:
    """The need of the first turn."""
    return turn.need if turn.index == 0 else current


def reference(
    turn: Turn,
    current: str,
    switches: int,
    *,
    tool_lock: bool = True,
    state_lock: bool = True,
    drift_reset: bool = True,
    idle_reset: bool = True,
    prior: bool = True,
    frontier_cost: bool = True,
) -> str:
    """The published full policy; each argument drops one of its rules."""
    need = turn.need
    if turn.index == 0:
        return need
    if (turn.phase == "tool" and tool_lock) or (turn.phase == "state" and state_lock):
        return current
    if (turn.phase == "drift" and drift_reset) or (turn.idle and idle_reset) or need == current:
        return need
    left = min(1.0, max(0, turn.prior - turn.index) / 8) if prior else 0.0
    context = max(min(1.0, turn.history / 16_000), left)
    spread = max(PRICES[m][0] - PRICES[m][2] for m in (need, current))
    dear = 1 + 1.6 * spread / LARGEST_PRICE_GAP if frontier_cost else 1.0
    loss = 0.20 * context * turn.cache_share(current) * dear
    gain = QUALITY[need] - QUALITY[current]
    return need if gain > 0.05 + loss + 0.04 * min(switches / 8, 1.0) else current


REFERENCES: dict[str, Chooser] = {
    "single-turn": single_turn,
    "sticky": sticky,
    "initial": functools.partial(reference, state_lock=False, drift_reset=False, prior=False),
    "no-tool-lock": functools.partial(reference, tool_lock=False),
    "no-context-portability": functools.partial(reference, state_lock=False),
    "no-drift-reset": functools.partial(reference, drift_reset=False),
    "no-idle-boundary": functools.partial(reference, idle_reset=False),
    "no-remaining-prior": functools.partial(reference, prior=False),
    "no-frontier-cost": functools.partial(reference, frontier_cost=False),
    "full": reference,
}


def judged_oracle(sessions: Sequence[list[Turn]], worth_usd: float) -> Outcome:
    """Walk every session as the oracle does."""
    models: dict[int, str] = {}
    for session in sessions:
        for turn, model in zip(session, oracle(session, worth_usd), strict=True):
            models[id(turn)] = model
    return judged(sessions, lambda turn, current, switches: models[id(turn)])


def unlocked(wanted: Callable[[Turn, str], str]) -> Chooser:
    """A rule on the turns where a switch is safe; the others stay."""

    def choose(turn: Turn, current: str, switches: int) -> str:
        return current if turn.locked and turn.index else wanted(turn, current)

    return choose


def _larger(turn: Turn, current: str, least: str) -> str:
    wanted = max(turn.need, least, key=QUALITY.__getitem__)
    if turn.idle or turn.index == 0:
        return wanted
    return max(wanted, current, key=QUALITY.__getitem__)


def _frontier_if(condition: bool) -> str:
    return FRONTIER if condition else MIDDLE


TRIVIAL: dict[str, Chooser] = {
    "always 8b": lambda turn, current, switches: SMALL,
    "always 32b": lambda turn, current, switches: MIDDLE,
    "always frontier": lambda turn, current, switches: FRONTIER,
    "need, unlocked turns": unlocked(lambda turn, _: turn.need),
    "need, never 8b": unlocked(lambda turn, _: _frontier_if(turn.need == FRONTIER)),
    "upgrade free, downgrade idle": unlocked(lambda turn, now: _larger(turn, now, SMALL)),
    "same, never 8b": unlocked(lambda turn, now: _larger(turn, now, MIDDLE)),
    "demand ≥ .86, else 32b": unlocked(lambda turn, _: _frontier_if(turn.demand >= 0.86)),
    "blind: frontier for two turns": unlocked(lambda turn, _: _frontier_if(turn.index < 2)),
    "blind: frontier to 9,000 tokens": unlocked(lambda turn, _: _frontier_if(turn.history < 9_000)),
}


def oracle(session: list[Turn], worth_usd: float) -> list[str]:
    """The models that cost least with every unit of strict quality worth so much, locks kept.

    It knows the whole session beforehand: a bound, no policy.
    """
    best: dict[str, tuple[float, list[str]]] = {SMALL: (0.0, [])}
    for turn in session:
        reached: dict[str, tuple[float, list[str]]] = {}
        for current, (loss, models) in best.items():
            for model in [current] if turn.locked and turn.index else list(QUALITY):
                share = turn.cache_share(model, model != current)
                under = max(QUALITY[turn.need] - QUALITY[model], 0.0)
                total = loss + turn.cost(model, math.floor(turn.prompt * share)) + worth_usd * under
                if model not in reached or total < reached[model][0]:
                    reached[model] = total, [*models, model]
        best = reached
    return min(best.values())[1]


def priced(
    policy: PricedPolicy, noise: Callable[[float], float] = lambda demand: demand
) -> Chooser:
    """The library's policy between the middle model and the frontier.

    Args:
        policy: With its dials.
        noise: Demand → the score that the policy sees.
    """
    models = {"fast": MIDDLE, "reasoning": FRONTIER}

    def choose(turn: Turn, current: str, switches: int) -> str:
        session = None
        if turn.index:
            caches = {
                name: CachedPrompt(
                    math.floor(turn.prompt * turn.cache_share(model, model != current)), 0.0
                )
                for name, model in models.items()
            }
            on = "reasoning" if current == FRONTIER else "fast"
            session = Session(on, 1, 0.0, caches=caches)
        lock = {"tool": ("tool_loop",), "state": ("stored_chain",)}.get(turn.phase, ())
        choice = policy.choose(
            Situation(
                turn_index=turn.index + 1,
                score=min(max(noise(turn.demand), 0.0), 1.0),
                threshold=THRESHOLD,
                session=session,
                locks=lock,
                prompt_tokens=turn.prompt,
                targets={
                    name: Target(model, Price(*PRICES[model]), output_tokens=turn.output)
                    for name, model in models.items()
                },
            )
        )
        return models[choice.model_class]

    return choose


# What a demand index of 0.78 to 1 says of the need is no probability: 0.78 counts as 0.32.
SCORE_SHIFT, HYSTERESIS = -2.0, 0.0
# Upgrades go by the price of a miss. From this score on, no price takes a turn off the frontier.
THRESHOLD = 0.82


def policy(miss_usd: float) -> PricedPolicy:
    """The policy with the dials that were chosen on other seeds, but for the price of a miss."""
    return PricedPolicy(miss_usd=miss_usd, score_shift=SCORE_SHIFT, hysteresis=HYSTERESIS)


def noisy(kind: str, seed: int) -> Callable[[float], float]:
    """Demand → the score that `priced` sees."""
    draw = random.Random(seed)
    if kind == "uniform":
        return lambda demand: demand + draw.uniform(-0.1, 0.1)
    if kind == "normal":
        return lambda demand: demand + draw.gauss(0.0, 0.1)
    return lambda demand: demand


def saved(outcome: Outcome, base: Outcome) -> float:
    """Share of the cost saved, against single-turn billed without a cache: the published figure."""
    return 1 - outcome.usd / base.uncached_usd


def choose_miss_usd(sessions: list[list[Turn]], least_quality: float) -> float:
    """The lowest price of a miss at which strict quality reaches a bound, to 0.001 USD."""
    base = judged(sessions, single_turn).strict_quality
    low, high = 0.0, 1.0
    while high - low > 0.001:
        middle = (low + high) / 2
        quality = judged(sessions, priced(policy(middle))).strict_quality - base
        low, high = (low, middle) if quality >= least_quality else (middle, high)
    return high


def mean_of(outcomes: Sequence[Outcome]) -> Outcome:
    """The mean of each number."""
    means = {
        item.name: sum(getattr(each, item.name) for each in outcomes) / len(outcomes)
        for item in fields(Outcome)
    }
    return Outcome(**means)


def show(name: str, outcome: Outcome, base: Outcome) -> None:
    """One row of the table."""
    print(
        f"{name:34} {outcome.switches:7,.0f} {outcome.unsafe:6,.0f} {saved(outcome, base):8.2%} "
        f"{outcome.quality - base.quality:+9.4f} {outcome.strict_quality:+9.4f} "
        f"{outcome.under:6.0%} {1 - outcome.usd / base.usd:8.1%} "
        f"{1 - outcome.strict_usd / base.strict_usd:8.1%}"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--choose", action="store_true", help="choose the price of a miss")
    parser.add_argument("--miss-usd", type=float, default=MISS_USD, help="price of a miss")
    arguments = parser.parse_args()
    if arguments.choose:
        sessions = sessions_of(CHOOSING_SEEDS)
        print(f"miss_usd {choose_miss_usd(sessions, -0.0375):.3f} on seeds {CHOOSING_SEEDS}")
        return
    sessions = sessions_of(PUBLISHED_SEEDS)
    base = judged(sessions, single_turn)
    print(f"{'policy':34} switches unsafe    saved   quality    strict  under  /cached  /strict")
    for name, chooser in (REFERENCES | TRIVIAL).items():
        show(name, judged(sessions, chooser), base)
    for kind, draws in (("none", 1), ("uniform", 5), ("normal", 5)):
        own = [
            judged(sessions, priced(policy(arguments.miss_usd), noisy(kind, seed)))
            for seed in range(1, draws + 1)
        ]
        shares = ", ".join(f"{saved(each, base):.2%}" for each in own)
        show(f"priced, noise {kind}", mean_of(own), base)
        print(f"  saved with each drawing of the noise: {shares}")
    for worth_usd in (0.5, 0.55, 0.6, 0.65):
        show(f"oracle, {worth_usd} USD a unit", judged_oracle(sessions, worth_usd), base)


if __name__ == "__main__":
    main()
