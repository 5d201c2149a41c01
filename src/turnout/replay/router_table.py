"""The `[router]` table of a settings file that serves what a replay recommends."""

from __future__ import annotations

import json
from collections.abc import Mapping

from turnout.records import ModelClass, Population
from turnout.replay.results import Recommendation
from turnout.routing.policies import PricedPolicy, Target


def router_table(
    recommended: Recommendation,
    population: Population,
    priced: PricedPolicy,
    targets: Mapping[ModelClass, Target],
) -> str:
    """The table as TOML: the numbers that the policy was replayed with, none rounded.

    Args:
        recommended: Policy and threshold.
        population: The population of the threshold.
        priced: With the expected turns left of the log's conversations.
        targets: Class → where it went, with the expected tokens of an answer.
    """
    lines = ["# These keys under [router] in turnout.toml serve what `turnout replay` recommends."]
    if recommended.policy == "priced" and priced.miss_usd is not None:
        lines.append(
            "# Take miss_usd out there: here the price of a miss follows from the threshold."
        )
    lines += [
        "[router]",
        f"policy = {json.dumps(recommended.policy)}",
        f"threshold = {recommended.threshold!r}",
        f"population = {json.dumps(population)}",
    ]
    if recommended.policy == "priced":
        tokens = {name: f"{target.output_tokens:g}" for name, target in targets.items()}
        lines += [
            f"turns_left = {list(priced.turns_left.by_turn)}",
            "output_tokens = { " + ", ".join(f"{k} = {v}" for k, v in tokens.items()) + " }",
        ]
    return "\n".join(lines) + "\n"
