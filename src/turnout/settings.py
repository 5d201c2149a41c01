"""The tables and keys of turnout.toml, checked, and the options that each stage takes from them."""

from __future__ import annotations

import datetime as dt
import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import ErrorDetails

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
from turnout.routing.policies import Policy, PolicyName, PricedPolicy, policy_of
from turnout.routing.policies import Target as PricedTarget
from turnout.routing.policies.costs import EXPECTED_OUTPUT_TOKENS

Origin = Literal["flag", "file", "default"]
Flags = Mapping[str, Mapping[str, object]]
"""Table → key → what the command line says; None where it says nothing."""

_SECRET = re.compile(r"key$|token|secret|password|authorization", re.IGNORECASE)
_PASSWORD_IN_URL = re.compile(r"(?<=://)[^/@]+(?=@)")
_KEY_IN_QUERY = re.compile(r"([?&][^=&]*(?:key|token|secret|password|sig)[^=&]*=)[^&]+", re.I)


def _compilable(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from error
    return pattern


_Pattern = Annotated[str, AfterValidator(_compilable)]


class RouterTable(Options):
    """How a router decides; what is left out is as it was trained."""

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
        description="Whose probabilities are shown, and the threshold above is for: log or "
        "balanced; by default log where the router knows it.",
    )
    cache_lifetime_s: float = Field(
        default=300.0,
        ge=0,
        description="Idle seconds after which `boundary` takes a cache as cold.",
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


class TargetsTable(Options):
    """Where each class goes."""

    reasoning: Target
    fast: Target


class ModelEntry(Options):
    """A model of your own; see `catalog.toml`."""

    pattern: _Pattern = Field(description="Regular expression over the whole normalised name.")
    name: str | None = Field(
        default=None, description="Canonical name; by default the normalised one."
    )
    provider: str
    family: str
    model_class: ModelClass = Field(alias="class")
    hybrid: bool = Field(default=False, description="Whether reasoning can be on or off.")


class PriceEntry(Options):
    """What a model of your own costs."""

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
    """The whole file."""

    router: RouterTable = RouterTable()
    upstreams: dict[str, Upstream] = Field(default={})
    targets: TargetsTable | None = None
    models: dict[str, NamedModel] = Field(default={})
    callers: list[Caller] = Field(default=[])
    gateway: FrontDoor = FrontDoor()
    catalog: CatalogTable = CatalogTable()

    def policy(self) -> Policy | None:
        """The policy; None takes the router folder's architecture."""
        table = self.router
        if table.policy is None:
            return None
        return policy_of(
            table.policy,
            cache_lifetime_s=table.cache_lifetime_s,
            fixed_class=table.fixed_class,
            priced=PricedPolicy(
                miss_usd=table.miss_usd,
                max_switching_share=table.max_switching_share,
                max_switching_usd=table.max_switching_usd,
            ),
        )

    def open_router(self, folder: Path) -> Router:
        """The router of a folder, with the file's policy, threshold, population and prices.

        Raises:
            ArtifactError: If the folder is absent, altered, or newer than this version.
            SettingsError: If the population's share of reasoning, or a price, is not known.
        """
        return Router(
            RouterFolder.read(folder),
            self.policy(),
            threshold=self.router.threshold,
            population=self.router.population,
            targets=self.priced_targets(),
        )

    def own_catalog(self) -> Catalog:
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
        catalog = self.own_catalog()
        priced = {}
        for model_class, target in self.model_targets().items():
            tokens = EXPECTED_OUTPUT_TOKENS[model_class]
            priced_target = PricedTarget.from_catalog(target.model, catalog, tokens)
            if priced_target is not None:
                priced[model_class] = priced_target
        missing = [name for name in get_args(ModelClass) if name not in priced]
        if missing and self.router.policy == "priced":
            raise SettingsError(
                f"[targets.{missing[0]}] model: no price is known; the policy priced needs one. "
                "Add a [[catalog.price]] for it, or take another router.policy."
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
        catalog = self.own_catalog()
        targets = {}
        for name, model in self.models_of(reasoning_model, fast_model).items():
            tokens = EXPECTED_OUTPUT_TOKENS[name]
            target = PricedTarget.from_catalog(model, catalog, tokens) if model else None
            if target is None:
                raise unpriced(name, model)
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


@dataclass(frozen=True, slots=True)
class SettingValue:
    """One setting, its value and who set it; secrets are masked."""

    key: str
    value: object
    origin: Origin


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


def load_settings(path: Path | None, flags: Flags | None = None) -> Settings:
    """Read a settings file; flags of the command line override it.

    Args:
        path: None leaves all at its default.
        flags: Checked as the file's values are.

    Raises:
        SettingsError: If the file cannot be read, or with every key and value that is wrong.
    """
    return _checked(path, _with_flags(_read(path), flags))


def catalog_of(path: Path | None) -> Catalog:
    """The shipped catalog, with what a settings file adds to it, if one is given.

    Raises:
        SettingsError: As `load_settings`.
    """
    return load_settings(path).own_catalog()


def setting_values(path: Path | None, flags: Flags | None = None) -> list[SettingValue]:
    """Every setting in the order of the file, with where it came from.

    Raises:
        SettingsError: As `load_settings`.
    """
    stored = _read(path)
    settings = _checked(path, _with_flags(stored, flags))
    values = []
    for key, value in _leaves(settings.model_dump(by_alias=True)):
        origin: Origin = "default"
        if _value_at(flags or {}, key) is not None:
            origin = "flag"
        elif _value_at(stored, key) is not None:
            origin = "file"
        values.append(SettingValue(".".join(map(str, key)), _masked(key, value), origin))
    return values


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(
            f"{path}: not found; expected a settings file such as examples/turnout.toml."
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(
            f"{path}: not readable as TOML ({error}); expected a settings file."
        ) from error


def _with_flags(stored: Mapping[str, Any], flags: Flags | None) -> dict[str, Any]:
    merged = dict(stored)
    for table, values in (flags or {}).items():
        overrides = {key: value for key, value in values.items() if value is not None}
        if overrides and isinstance(merged.get(table, {}), dict):
            merged[table] = {**merged.get(table, {}), **overrides}
    return merged


def _checked(path: Path | None, stored: Mapping[str, Any]) -> Settings:
    problems = _unknown_upstreams(stored)
    try:
        settings = Settings.model_validate(stored, context=path.parent if path else None)
    except ValidationError as error:
        problems = [_problem(detail) for detail in error.errors()] + problems
    if problems:
        apart = "\n  " if len(problems) > 1 else " "
        raise SettingsError(apart.join([f"{path or 'settings'}:", *problems]))
    return settings


def _unknown_upstreams(stored: Mapping[str, Any]) -> list[str]:
    """Targets whose upstream is not in the file; no single field can check that."""
    upstreams = stored.get("upstreams", {})
    if not isinstance(upstreams, dict):
        return []
    return [
        f"[{where}] upstream: found {name!r}; expected one of [upstreams]: "
        f"{', '.join(upstreams) or 'none is there'}."
        for where, target in _with_upstream(stored)
        if isinstance(name := target.get("upstream"), str) and name not in upstreams
    ]


def _with_upstream(stored: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every table that names an upstream, with its place."""
    for table in ("targets", "models"):
        named = stored.get(table, {})
        for name, target in named.items() if isinstance(named, dict) else ():
            if not isinstance(target, dict):
                continue
            yield f"{table}.{name}", target
            stand_ins = target.get("stand_ins", ())
            for stand_in in stand_ins if isinstance(stand_ins, list) else ():
                if isinstance(stand_in, dict):
                    yield f"{table}.{name}.stand_ins", stand_in


def _problem(error: ErrorDetails) -> str:
    """An error of pydantic as a message with the file's table and key."""
    table, key = _place(error["loc"])
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(key), names := _keys(error["loc"][:-1]), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"expected {', '.join(names)}."
        return f"{table or 'the file'} has no key {key!r}; {hint}"
    where = f"{table} {key}".strip()
    if error["type"] == "missing":
        return f"{where}: missing; expected a value."
    expected = re.sub(r"^(\w+ should (be|match|have)|Value error,) ", "", error["msg"])
    expected = re.sub(r"^(?=less|greater)", "a number ", expected)
    return f"{where}: found {_masked([key], error['input'])!r}; expected {expected}."


def _place(location: Sequence[str | int]) -> tuple[str, str | int]:
    """A location as TOML writes it: its table and its key."""
    *tables, key = location
    numbers = [step + 1 for step in tables if isinstance(step, int)]
    names = ".".join(step for step in tables if isinstance(step, str))
    if numbers:
        return f"[[{names}]] {numbers[0]}:", key
    return f"[{names}]" if names else "", key


def _keys(location: Sequence[str | int]) -> list[str]:
    """The keys of the table at a location, as the schema has them."""
    schema = Settings.model_json_schema()
    node: Mapping[str, Any] = schema
    for step in [*location, None]:
        node = next((choice for choice in node.get("anyOf", ()) if "$ref" in choice), node)
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        if step is not None:
            inside = node.get("properties", {}).get(step)
            node = inside or node.get("items") or node["additionalProperties"]
    return list(node["properties"])


def _leaves(node: object, key: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, object]]:
    pairs: Iterator[tuple[Any, object]] | None = None
    if isinstance(node, dict):
        pairs = iter(node.items())
    elif isinstance(node, list):
        pairs = iter(enumerate(node))
    if pairs is None:
        yield key, node
    else:
        for step, inside in pairs:
            yield from _leaves(inside, (*key, step))


def _value_at(node: Any, key: Sequence[str | int]) -> object:  # noqa: ANN401 (any TOML value)
    for step in key:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return None
    return node


def _masked(key: Sequence[str | int], value: object) -> object:
    if isinstance(value, str):
        if str(key[-1]).endswith("_env"):
            return f"{value} ({'set' if os.environ.get(value) else 'not set'} in the environment)"
        if _SECRET.search(str(key[-1])):
            return "…"
        return _KEY_IN_QUERY.sub(r"\1…", _PASSWORD_IN_URL.sub("…", value))
    return value
