"""What `turnout learn` prints of a log, its routers and its policies."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.table import Table

from turnout.cli.console import stored_estimate, with_interval
from turnout.learn import Learnt
from turnout.learn.summary import routers_of
from turnout.replay.ranking import Ranking
from turnout.replay.stage import ReplayReport

# From so many USD on, cents are left out.
_WHOLE_USD = 100.0


def tables(learnt: Learnt) -> Iterator[Table]:
    """How well the routers tell, and what each policy would cost."""
    yield routers_table(learnt)
    if learnt.replay is not None:
        if learnt.replay.comparison.ranking is not None:
            yield ranking_table(learnt.replay.comparison.ranking, learnt.replay.evidence)
        yield policies_table(learnt.replay)


def counted(learnt: Learnt) -> list[str]:
    """What became of the log on its way to data sets."""
    ingest, labels = learnt.ingest, learnt.labels
    kinds = learnt.switches.switches if learnt.switches else []
    by_kind = ", ".join(f"{each.count:,} {each.kind}" for each in kinds if each.count)
    sizes = ", ".join(f"{name} {built['rows']:,} rows" for name, built in learnt.datasets.items())
    return [
        f"Log: {ingest.rows_read:,} rows read; {ingest.rows_kept:,} turns of "
        f"{ingest.conversations:,} conversations kept.",
        f"Switches from one model to another: {by_kind or 'none'}."
        if learnt.switches
        else "No turn names a model.",
        f"Labels: {labels.labelled:,} turns have evidence of what they needed; "
        f"{labels.reasoning:,} lean to reasoning.",
        f"Data sets: {sizes}.",
    ]


def routers_table(learnt: Learnt) -> Table:
    """Each router on the test rows of its own data set."""
    rows = routers_of(learnt.evaluation)
    table = Table(
        "router", "test rows", rows[0]["metric"], "ahead of TF-IDF by", "TF-IDF", "length",
        title=f"Each router on the test rows of its own data set, against {rows[0]['reference']}",
        title_justify="left",
    )  # fmt: skip
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['rows']:,}",
            *(
                with_interval(stored_estimate(row[name]), form)
                for name, form in (
                    ("router", "{:.3f}"),
                    ("lead", "{:+.3f}"),
                    ("linear", "{:.3f}"),
                    ("length", "{:.3f}"),
                )
            ),
        )
    return table


def ranking_table(ranking: Ranking, evidence: str | None) -> Table:
    """Both routers on the same turns."""
    first = ranking.rows[0]
    table = Table(
        "scores of", "AUROC", f"{first.name} ahead by",
        title=f"On the same {ranking.turns:,} turns of {ranking.conversations:,} conversations, by "
        f"{evidence}",
        title_justify="left",
    )  # fmt: skip
    for row in ranking.rows:
        ahead = "–" if row is first else with_interval(row.ahead, "{:+.3f}")
        table.add_row(row.name, with_interval(row.auroc, "{:.3f}"), ahead)
    return table


def policies_table(report: ReplayReport) -> Table:
    """Today, all reasoning, all fast, and the policies at the misses that are allowed."""
    comparison = report.comparison
    pace = report.turns_a_month
    scale = 1.0 if pace is None else pace / 1_000
    table = Table(
        "policy", f"USD, {'1,000 turns' if pace is None else 'a month'}", "saved beside today",
        "missed, expected", "to reasoning",
        title=f"{report.turns:,} turns of {report.conversations:,} conversations, at most "
        f"{report.max_miss:.0%} expected misses",
        title_justify="left",
    )  # fmt: skip
    today, reasoning = comparison.today, comparison.served[0].measured
    usd = "{:,.0f}" if reasoning.usd.value * scale >= _WHOLE_USD else "{:,.2f}"
    if math.isfinite(today.share_reasoning.value):
        table.add_row(
            "today", with_interval(today.usd, usd, scale), "–", f"at most {today.missed.value:.0%}",
            f"{today.share_reasoning.value:.0%}",
        )  # fmt: skip
    level = comparison.level(report.max_miss)
    for row in (*comparison.served[:2], *level.rows, *level.beside):
        table.add_row(
            row.name.replace("always", "all"),
            with_interval(row.measured.usd, usd, scale),
            with_interval(row.against_today, usd.replace(":", ":+"), scale),
            with_interval(row.measured.missed, "{:.0%}"),
            f"{row.measured.share_reasoning.value:.0%}",
        )
    return table
