"""The tables and keys of turnout.toml, and the options that each stage takes from them."""

from __future__ import annotations

import datetime as dt
import functools
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, get_args

from pydantic import AfterValidator, Field

from turnout.catalog import Catalog, load_catalog
from turnout.errors import SettingsError
from turnout.gateway.options import (
    Caller,
    FrontDoor,
    GatewayOptions,
    NamedModel,
    Options,
    Target,
    Upstream,
)
from turnout.records import ModelClass, Population
from turnout.routing import Router, RouterFolder
from turnout.routing.policies import Policy, PolicyName, PricedPolicy, TurnsLeft, policy_of
from turnout.routing.policies import Target as PricedTarget
from turnout.routing.policies.costs import EXPECTED_OUTPUT_TOKENS
from turnout.routing.policies.unpriced import DEFAULT_CACHE_LIFETIME_S


def _compilable(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from error
    return pattern


_Pattern = Annotated[str, AfterValidator(_compilable)]


class OutputTokensTable(Options):
    """Expected tokens of an answer, with reasoning tokens."""

    reasoning: float = Field(
        default=EXPECTED_OUTPUT_TOKENS["reasoning"],
        ge=0,
        allow_inf_nan=False,
        description="Of the reasoning class.",
    )
    fast: float = Field(
        default=EXPECTED_OUTPUT_TOKENS["fast"],
        ge=0,
        allow_inf_nan=False,
        description="Of the fast class.",
    )


class RouterTable(Options):
    """How a router decides; a key that is left out keeps the value in the router's folder."""

    policy: PolicyName | None = Field(
        default=None,
        description="session: once a conversation. conversation: every turn. boundary: again only "
        "when the prompt cache is cold anyway. fixed: always the same class. priced: a switch "
        "where it is worth its price.",
    )
    threshold: float | None = Field(
        default=None, ge=0, le=1, description="Least p_reasoning that goes to reasoning."
    )
    population: Population | None = Field(
        default=None,
        description="The population that probabilities and the threshold above refer to: log or "
        "balanced; by default log where the router knows it.",
    )
    cache_lifetime_s: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Idle seconds after which a prompt cache counts as cold, for `boundary` and "
        "`priced`; by default those of each target's model (300, or 1,800 from GPT-5.6 on).",
    )
    fixed_class: ModelClass = Field(default="reasoning", description="The class of `fixed`.")
    miss_usd: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="What a message that needs reasoning and goes to fast costs you, in USD, for "
        "`priced`; by default derived from the threshold.",
    )
    max_switching_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Most that switching may take of a conversation's spend under `priced`.",
    )
    max_switching_usd: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Most that switching may cost a conversation under `priced`, in USD.",
    )
    turns_left: list[Annotated[float, Field(ge=1, allow_inf_nan=False)]] = Field(
        default=list(TurnsLeft().by_turn),
        min_length=1,
        description="Expected turns left of a conversation, with the current one, by turn index "
        "from 1; the last holds for all later turns. For `priced`; `turnout replay` and `turnout "
        "learn` write those of the log.",
    )
    output_tokens: OutputTokensTable = Field(
        default=OutputTokensTable(),
        description="Expected tokens of an answer of each class, with reasoning tokens. For "
        "`priced`; `turnout replay` and `turnout learn` write the means of the log.",
    )


class TargetsTable(Options):
    """Where each class goes."""

    reasoning: Target
    fast: Target


class ModelEntry(Options):
    """A model that the shipped catalog lacks; see `catalog.toml`."""

    pattern: _Pattern = Field(description="Regular expression over the whole normalised name.")
    name: str | None = Field(
        default=None, description="Canonical name; by default the normalised one."
    )
    provider: str
    family: str
    model_class: ModelClass = Field(alias="class")
    hybrid: bool = Field(default=False, description="Whether reasoning can be on or off.")


class PriceEntry(Options):
    """The price of a model that the shipped catalog lacks."""

    pattern: _Pattern = Field(description="Regular expression over the canonical name.")
    input_usd_per_mtok: float = Field(ge=0, allow_inf_nan=False)
    cached_input_usd_per_mtok: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    output_usd_per_mtok: float = Field(ge=0, allow_inf_nan=False)
    source: str = ""
    as_of: dt.date | None = None


class CatalogTable(Options):
    """Your own models and prices, tried before the shipped ones."""

    model: list[ModelEntry] = Field(default=[])
    price: list[PriceEntry] = Field(default=[])
    unnamed: list[str] = Field(default=[], description="Names that name no model.")


class Settings(Options):
    """Everything in turnout.toml."""

    router: RouterTable = RouterTable()
    upstreams: dict[str, Upstream] = Field(default={})
    targets: TargetsTable | None = None
    models: dict[str, NamedModel] = Field(default={})
    callers: list[Caller] = Field(default=[])
    gateway: FrontDoor = FrontDoor()
    catalog: CatalogTable = CatalogTable()

    def policy(self) -> Policy | None:
        """The policy; None takes the router folder's architecture."""
        name = self.router.policy
        return None if name is None else self.policy_named(name)

    def policy_named(self, name: str, score_shift: float = 0.0) -> Policy:
        """The policy of a name, with the file's numbers for it.

        Args:
            name: One of `POLICY_NAMES`.
            score_shift: As in `PricedPolicy`.

        Raises:
            SettingsError: If there is no such policy.
        """
        table, lifetime_s = self.router, self.router.cache_lifetime_s
        return policy_of(
            name,
            cache_lifetime_s=DEFAULT_CACHE_LIFETIME_S if lifetime_s is None else lifetime_s,
            fixed_class=table.fixed_class,
            priced=replace(self.priced_policy(), score_shift=score_shift),
        )

    def priced_policy(self, miss_usd: float | None = None) -> PricedPolicy:
        """The `priced` policy with the file's numbers.

        Args:
            miss_usd: The price of a miss of a flag; None for the file's.
        """
        table = self.router
        return PricedPolicy(
            miss_usd=table.miss_usd if miss_usd is None else miss_usd,
            max_switching_share=table.max_switching_share,
            max_switching_usd=table.max_switching_usd,
            turns_left=TurnsLeft(tuple(table.turns_left)),
        )

    def open_router(self, folder: Path) -> Router:
        """The router of a folder, with the file's policy, threshold, population and prices.

        Raises:
            ArtifactError: If the folder is absent, altered, or newer than this version.
            SettingsError: If the population's share of reasoning, or a price, is not known.
        """
        opened = RouterFolder.read(folder)
        priors, table = opened.spec.priors, self.router
        # Prices multiply probabilities of the traffic, whichever population is shown.
        shift = priors.shift(priors.default) - priors.shift(table.population or priors.default)
        policy_named = functools.partial(self.policy_named, score_shift=shift)
        return Router(
            opened,
            None if table.policy is None else policy_named(table.policy),
            threshold=table.threshold,
            population=table.population,
            targets=self.priced_targets(),
            policy_named=policy_named,
        )

    def merged_catalog(self) -> Catalog:
        """The shipped catalog with the file's entries before it."""
        return load_catalog(self.catalog.model_dump(by_alias=True, exclude_unset=True))

    def model_targets(self) -> dict[ModelClass, Target]:
        """The target of each class; empty where the file names none."""
        targets = self.targets
        return {"reasoning": targets.reasoning, "fast": targets.fast} if targets else {}

    def priced_targets(self) -> dict[ModelClass, PricedTarget]:
        """The target of each class with its list price, for policies that weigh prices.

        Empty where a target or its price is not known, unless the policy needs it.

        Raises:
            SettingsError: If the policy is `priced` and a price is not known.
        """
        priced = self._with_prices(self.models_of(None, None))
        missing = [name for name in get_args(ModelClass) if name not in priced]
        if missing and self.router.policy == "priced":
            raise SettingsError(
                f"[targets.{missing[0]}] model: no price is known; the policy priced needs one. "
                "Add a [[catalog.price]] for it, or choose another router.policy."
            )
        return {} if missing else priced

    def models_of(
        self, reasoning_model: str | None, fast_model: str | None
    ) -> dict[ModelClass, str | None]:
        """The model of each class: that of a flag, else that of the file's target, else None."""
        models = {name: target.model for name, target in self.model_targets().items()}
        return {
            "reasoning": reasoning_model or models.get("reasoning"),
            "fast": fast_model or models.get("fast"),
        }

    def targets_of(
        self, reasoning_model: str | None, fast_model: str | None
    ) -> dict[ModelClass, PricedTarget]:
        """The target of each class with its list price: models named by flags, else the file's.

        Raises:
            SettingsError: If a class has no model, or its model no price.
        """
        models = self.models_of(reasoning_model, fast_model)
        targets = self._with_prices(models)
        for name, model in models.items():
            if name not in targets:
                raise unpriced(name, model)
        return targets

    def _with_prices(
        self, models: Mapping[ModelClass, str | None]
    ) -> dict[ModelClass, PricedTarget]:
        """The models with their list prices, without those whose price is not known."""
        catalog, lifetime_s = self.merged_catalog(), self.router.cache_lifetime_s
        output_tokens = self.router.output_tokens.model_dump()
        targets: dict[ModelClass, PricedTarget] = {}
        for name, model in models.items():
            if model is None:
                continue
            target = PricedTarget.from_catalog(model, catalog, output_tokens[name])
            if target is not None and lifetime_s is not None:
                target = replace(target, cache_lifetime_s=lifetime_s)
            if target is not None:
                targets[name] = target
        return targets

    def gateway_options(self, path: Path) -> GatewayOptions:
        """How to serve.

        Args:
            path: Names the file in messages.

        Raises:
            SettingsError: If the file names no targets.
        """
        targets = self.model_targets()
        if not targets:
            raise SettingsError(
                f"{path}: no [targets.reasoning] and [targets.fast]; expected where each class "
                "goes. See examples/turnout.toml."
            )
        door = self.gateway.model_dump()
        return GatewayOptions(
            upstreams=self.upstreams,
            targets=targets,
            models=self.models,
            callers=tuple(self.callers),
            **door,
        )


def unpriced(model_class: ModelClass, model: str | None) -> SettingsError:
    """The error that a class has no model, or its model no price."""
    option = f"--{model_class}-model"
    if model is None:
        return SettingsError(
            f"{option}: not given, and the settings name no target of that class; expected the "
            f"model whose price counts. Add {option} NAME."
        )
    return SettingsError(
        f"{option}: no price is known for {model}; expected a model of the catalog. Name another, "
        "or add a [[catalog.price]] to turnout.toml."
    )
