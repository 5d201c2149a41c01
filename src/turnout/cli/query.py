"""The options of a Kusto query, for the verbs that print or run one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from turnout.logs.kusto.kql import QueryParameters

_OPTIONS = (
    click.option("--table", help="Your Kusto table.  [default: ConversationTurns]"),
    click.option("--days", type=click.IntRange(min=1), help="How far back to read.  [default: 90]"),
    click.option(
        "--until",
        type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
        help="Read only what was before this moment, in UTC.",
    ),
    click.option(
        "--per-bucket",
        type=click.IntRange(min=1),
        help="Conversations of each turn-count bucket, if a query has them.  [default: 5000]",
    ),
    click.option(
        "--percent",
        type=click.IntRange(min=1, max=100),
        help="Percent of conversations to keep, if a query samples them.  [default: 100]",
    ),
)
_NAMES = ("table", "days", "until", "per_bucket", "percent")


def query_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which takes them as keywords."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def parameters_of(options: dict[str, Any]) -> QueryParameters:
    """Remove the options of a query from the other options."""
    from turnout.logs.kusto.kql import QueryParameters

    return QueryParameters(**{name: options.pop(name) for name in _NAMES})
