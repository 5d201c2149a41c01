"""report.json → one self-contained HTML page; measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from turnout.evaluation import charts
from turnout.pages import render_page

Stored = Mapping[str, Any]

_METRIC_COLUMNS = {
    "auroc": ("AUROC", "higher is better; 0.5 is a random order"),
    "apgr": ("APGR", "average performance gap recovered; higher is better, 0.5 is a random order"),
    "average_precision": ("AP", "average precision; higher is better"),
    "brier": ("Brier", "mean squared error of the probability; lower is better"),
    "ece": ("ECE", "expected calibration error; lower is better"),
    "share_for_80": ("traffic for 80 %", "messages to reasoning to have 80 % of the gain"),
}
_GAINS = {
    "auroc": "of the messages that need it, served by it",
    "apgr": "of the quality gap recovered",
}


def render(content: Stored) -> str:
    """The page as HTML; it needs no network and no other file.

    Args:
        content: What `report.json` says.
    """
    return render_page(
        "turnout.evaluation",
        "report.html",
        {
            "routers": [_shown(router, at) for at, router in enumerate(content["routers"])],
            "columns": _METRIC_COLUMNS,
        },
        {"estimate": estimate, "lead": _lead, "percent": _percent},
    )


def estimate(found: Stored | None, form: str = ".3f", scale: float = 1.0, unit: str = "") -> Markup:
    """A number with its interval small below it; a dash where nothing could be measured."""
    if found is None or found["value"] is None:
        return Markup("–")
    value = Markup("{}{}").format(f"{found['value'] * scale:{form}}", unit)
    if found["low"] is None or found["high"] is None:
        return value
    interval = f"{found['low'] * scale:{form}} … {found['high'] * scale:{form}}"
    return value + Markup("<small>{}</small>").format(interval)


def _lead(found: Stored | None) -> Markup:
    return estimate(found, "+.3f")


def _percent(found: Stored) -> Markup:
    return estimate(found, ".0f", 100.0, " %")


def _shown(router: Stored, at: int) -> dict[str, Any]:
    return dict(router) | {
        "anchor": f"router-{at}",
        "judgements": [
            _judgement(judgement, router["main_metric_names"], f"c{at}-{number}")
            for number, judgement in enumerate(router["judgements"])
        ],
        "context_chart": _context_chart(router, at),
        "issues": sum(finding["outcome"] == "issue" for finding in router["findings"]),
    }


def _context_chart(router: Stored, at: int) -> str | None:
    return charts.context(router["context"], f"c{at}-context") if router["context"] else None


def _judgement(judgement: Stored, names: Mapping[str, str], key: str) -> dict[str, Any]:
    metric = judgement["main_metric"]
    columns = [c for c in _METRIC_COLUMNS if c != "apgr" or metric == "apgr"]
    columns.sort(key=lambda c: c != metric)
    judged = [p for p in judgement["parts"] if p["router"] and p["router"]["value"] is not None]
    return dict(judgement) | {
        "length": next(m for m in judgement["methods"] if m["name"].startswith("length")),
        "linear": [m for m in judgement["methods"] if m["name"].startswith("TF-IDF")][-1],
        "metric_name": names[metric],
        "columns": columns,
        "comparison": charts.comparison(judgement, names[metric], f"{key}-all"),
        "curve": charts.curves(judgement, _GAINS[metric], f"{key}-curve"),
        "reliability_chart": charts.reliability(judgement, f"{key}-rel"),
        "parts_chart": charts.parts(judged, f"{key}-parts") if judged else None,
        "judged_parts": judged,
        "unjudged_parts": [p for p in judgement["parts"] if p not in judged],
    }
