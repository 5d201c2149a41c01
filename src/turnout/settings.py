"""turnout.toml → each stage's own options; runs no stage."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

from turnout.catalog import Catalog, load_catalog
from turnout.errors import SettingsError
from turnout.gateway.options import DEFAULT_TIMEOUT_S, GatewayOptions, Target, Upstream
from turnout.records import ModelClass
from turnout.routing.policy import Policy, PolicyName

_SECTIONS = ("router", "upstreams", "targets", "gateway", "catalog")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a settings file says.

    Attributes:
        policy: None takes the router folder's architecture.
        threshold: None takes the router folder's.
        gateway: None where the file names no targets.
        catalog: The `[catalog]` table for `load_catalog`.
    """

    policy: Policy | None = None
    threshold: float | None = None
    gateway: GatewayOptions | None = None
    catalog: Mapping[str, Any] = field(default_factory=dict)


def load_settings(path: Path) -> Settings:
    """Read a settings file.

    Raises:
        SettingsError: If it cannot be read, or with every key and value that is wrong.
    """
    try:
        stored = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(
            f"{path}: not found; expected a settings file such as examples/turnout.toml."
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(
            f"{path}: not readable as TOML ({error}); expected a settings file."
        ) from error
    reader = _Reader()
    settings = _settings(stored, reader, path.parent)
    if reader.problems:
        raise SettingsError(f"{path}: " + "\n  ".join(["", *reader.problems]).strip())
    return settings


def catalog_of(path: Path | None) -> Catalog:
    """The shipped catalogue, with what a settings file adds to it, if one is given.

    Raises:
        SettingsError: As `load_settings`, or if a catalogue entry is not in its form.
    """
    return load_catalog(load_settings(path).catalog if path else None)


class _Reader:
    """Takes values out of tables and collects every problem, so that all are told at once."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def known(self, where: str, table: Mapping[str, Any], names: tuple[str, ...]) -> None:
        for name in table:
            if name not in names:
                close = difflib.get_close_matches(name, names, n=1)
                hint = f"did you mean {close[0]}?" if close else f"expected {', '.join(names)}."
                self.problems.append(f"{where}{name}: unknown; {hint}")

    def table(self, where: str, value: object) -> Mapping[str, Any]:
        if isinstance(value, dict):
            return value
        self._wrong(where, value, "a table")
        return {}

    def text(self, where: str, table: Mapping[str, Any], name: str) -> str:
        value = table.get(name)
        if isinstance(value, str) and value:
            return value
        self._wrong(f"{where}{name}", table.get(name), "a text")
        return ""

    def optional_text(self, where: str, table: Mapping[str, Any], name: str) -> str | None:
        return self.text(where, table, name) if name in table else None

    def number(
        self, where: str, table: Mapping[str, Any], name: str, default: float, *span: float
    ) -> float:
        value = table.get(name, default)
        if _within(value, *span):
            return float(value)
        self._wrong(f"{where}{name}", value, f"a number from {span[0]:g} to {span[1]:g}")
        return default

    def choice(self, where: str, value: object, choices: tuple[_T, ...]) -> _T:
        for choice in choices:
            if choice == value:
                return choice
        self._wrong(where, value, f"one of {', '.join(map(str, choices))}")
        return choices[0]

    def _wrong(self, where: str, value: object, expected: str) -> None:
        found = "nothing" if value is None else repr(value)
        self.problems.append(f"{where}: found {found}; expected {expected}.")


def _within(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _settings(stored: Mapping[str, Any], reader: _Reader, folder: Path) -> Settings:
    reader.known("", stored, _SECTIONS)
    tables = {name: reader.table(name, stored.get(name, {})) for name in _SECTIONS}
    policy, threshold = _router(tables["router"], reader)
    upstreams = {
        name: _upstream(name, reader.table(f"upstreams.{name}", value), reader)
        for name, value in tables["upstreams"].items()
    }
    targets = _targets(tables["targets"], upstreams, reader)
    gateway = _gateway(tables["gateway"], upstreams, targets, reader, folder) if targets else None
    reader.known("catalog.", tables["catalog"], ("model", "price", "unnamed"))
    return Settings(policy, threshold, gateway, tables["catalog"])


def _router(table: Mapping[str, Any], reader: _Reader) -> tuple[Policy | None, float | None]:
    names = ("policy", "threshold", "cache_lifetime_s", "fixed_class")
    reader.known("router.", table, names)
    threshold = reader.number("router.", table, "threshold", 0.5, 0, 1)
    lifetime_s = reader.number("router.", table, "cache_lifetime_s", 300.0, 0, 1e9)
    fixed = reader.choice(
        "router.fixed_class", table.get("fixed_class", "reasoning"), get_args(ModelClass)
    )
    policy = None
    if "policy" in table:
        name = reader.choice("router.policy", table["policy"], get_args(PolicyName))
        policy = Policy(name, lifetime_s, fixed)
    return policy, threshold if "threshold" in table else None


def _upstream(name: str, table: Mapping[str, Any], reader: _Reader) -> Upstream:
    where = f"upstreams.{name}."
    reader.known(where, table, ("url", "api_key_env", "timeout_s"))
    url = reader.text(where, table, "url")
    if url and not url.startswith(("http://", "https://")):
        reader.problems.append(f"{where}url: found {url!r}; expected http:// or https://.")
    return Upstream(
        name,
        url,
        reader.optional_text(where, table, "api_key_env"),
        reader.number(where, table, "timeout_s", DEFAULT_TIMEOUT_S, 0.1, 86_400),
    )


def _targets(
    tables: Mapping[str, Any], upstreams: Mapping[str, Upstream], reader: _Reader
) -> dict[ModelClass, Target]:
    classes: tuple[ModelClass, ...] = get_args(ModelClass)
    reader.known("targets.", tables, classes)
    targets: dict[ModelClass, Target] = {}
    for model_class in classes if tables else ():
        where = f"targets.{model_class}"
        if model_class not in tables:
            reader.problems.append(f"{where}: missing; expected a target for both classes.")
            continue
        table = reader.table(where, tables[model_class])
        reader.known(f"{where}.", table, ("upstream", "model", "parameters"))
        upstream = reader.text(f"{where}.", table, "upstream")
        if upstream and upstream not in upstreams:
            known = ", ".join(upstreams) or "none"
            reader.problems.append(
                f"{where}.upstream: found {upstream!r}; expected one under [upstreams]: {known}."
            )
        targets[model_class] = Target(
            upstream,
            reader.text(f"{where}.", table, "model"),
            reader.table(f"{where}.parameters", table.get("parameters", {})),
        )
    return targets


def _gateway(
    table: Mapping[str, Any],
    upstreams: Mapping[str, Upstream],
    targets: Mapping[ModelClass, Target],
    reader: _Reader,
    folder: Path,
) -> GatewayOptions:
    reader.known("gateway.", table, ("host", "port", "model_name", "journal"))
    given = {
        name: reader.text("gateway.", table, name)
        for name in ("host", "model_name")
        if name in table
    }
    journal = reader.optional_text("gateway.", table, "journal")
    port = int(reader.number("gateway.", table, "port", 8080, 0, 65_535))
    return GatewayOptions(
        upstreams,
        targets,
        port=port,
        # Relative to the file, so that it means the same wherever the gateway is started.
        journal=folder / journal if journal else None,
        **given,
    )
