"""report.json → one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from turnout.evaluation import charts
from turnout.pages import estimate, render_page

Stored = Mapping[str, Any]

_METRIC_COLUMNS = {
    "auroc": ("AUROC", "higher is better; 0.5 is a random order"),
    "apgr": ("APGR", "average performance gap recovered; higher is better, 0.5 is a random order"),
    "brier": ("Brier", "mean squared error of the probability; lower is better"),
    "ece": ("calibration error", "expected calibration error; lower is better"),
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
            "routers": [
                _router_values(router, number) for number, router in enumerate(content["routers"])
            ],
            "columns": _METRIC_COLUMNS,
        },
        {"estimate": estimate, "lead": _lead, "percent": _percent},
    )


def _lead(stored: Stored | None) -> Markup:
    return estimate(stored, "+.3f")


def _percent(stored: Stored) -> Markup:
    return estimate(stored, ".0f", 100.0, " %")


def _router_values(router: Stored, position: int) -> dict[str, Any]:
    return dict(router) | {
        "anchor": f"router-{position}",
        "results": [
            _result_values(result, router["main_metric_names"], f"c{position}-{number}")
            for number, result in enumerate(router["results"])
        ],
        "context_chart": _context_chart(router, position),
        "issues": sum(finding["outcome"] == "issue" for finding in router["findings"]),
    }


def _context_chart(router: Stored, position: int) -> str | None:
    return charts.context(router["context"], f"c{position}-context") if router["context"] else None


def _result_values(result: Stored, names: Mapping[str, str], key: str) -> dict[str, Any]:
    metric = result["main_metric"]
    columns = [c for c in _METRIC_COLUMNS if c != "apgr" or metric == "apgr"]
    columns.sort(key=lambda c: c != metric)
    measured = [p for p in result["parts"] if p["router"] and p["router"]["value"] is not None]
    return dict(result) | {
        "length": next(m for m in result["methods"] if m["name"].startswith("length")),
        "linear": [m for m in result["methods"] if m["name"].startswith("TF-IDF")][-1],
        "metric_name": names[metric],
        "columns": columns,
        "comparison": charts.comparison(result, names[metric], f"{key}-all"),
        "curve": charts.curves(result, _GAINS[metric], f"{key}-curve"),
        "reliability_chart": charts.reliability(result, f"{key}-rel"),
        "parts_chart": charts.parts(measured, f"{key}-parts") if measured else None,
        "measured_parts": measured,
        "thin_parts": [p for p in result["parts"] if p not in measured],
    }
