"""dataset.json and the drawings of a data set → one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from turnout.dataset.card import LABELS, PLOTS, near_sentence
from turnout.dataset.description import usage_sentence
from turnout.pages import render_page
from turnout.records import ID2LABEL

Stored = Mapping[str, Any]

# More rows than this are shown folded: measured outcomes may come in hundreds of groups.
_MOST_ROWS = 30
# A share of reasoning as near to the wanted one as this is what was asked for.
_NEAR_RATIO = 0.005


class Check(NamedTuple):
    """One question about a data set.

    Attributes:
        name: What is asked about.
        outcome: `pass`, `issue`, or `note` where a log cannot give more, or nothing was asked for.
        sentence: The answer.
    """

    name: str
    outcome: str
    sentence: str


class Step(NamedTuple):
    """What became of a part of the turns; drawn as a bar.

    Attributes:
        kind: `all`, `not taken`, `labelled`, `not used` or `used`.
        reason: Why; empty for sums.
        turns: How many.
        before: Turns that the bar begins after.
    """

    kind: str
    reason: str
    turns: int
    before: int


def render(description: Stored, drawings: Mapping[str, str]) -> str:
    """The page as HTML; it needs no network and no other file.

    Args:
        description: What `dataset.json` says.
        drawings: Name, as in `card.PLOTS` → SVG element.
    """
    splits = _by_split(description["composition"])
    values = {
        "data": description,
        "headline": usage_sentence(description),
        "measured": description["source"] == "outcomes",
        "labels": LABELS[description["source"]].replace("`", ""),
        "splits": splits,
        "train": next(split for split in splits if split["name"] == "train"),
        "strata": sum(len(split["strata"]) for split in splits),
        "most_rows": _MOST_ROWS,
        "steps": steps(description["usage"]),
        "checks": checks(description),
        "quotas": _quotas(description.get("quotas") or []),
        "leaks": sum(description["leaks"].values()),
        "drawings": [(title, drawings[name]) for name, title in PLOTS.items()],
    }
    return render_page("turnout.dataset", "dataset.html", values, {"percent": _percent})


def steps(usage: Stored) -> list[Step]:
    """All turns, less those that are not taken and not used: what is used remains."""
    taken = [Step("all", "", usage["turns"], 0)]
    left = usage["turns"]
    for part, kind in (("not_taken", "not taken"), ("not_used", "not used")):
        for reason, turns in usage[part].items():
            left -= turns
            taken.append(Step(kind, reason, turns, left))
        if part == "not_taken" and taken[1:]:
            taken.append(Step("labelled", "", usage["labelled"], 0))
    return [*taken, Step("used", "", usage["used"], 0)]


def checks(description: Stored) -> list[Check]:
    """Size, balance, strata and leaks: what was asked for and what came out."""
    return [_size(description), *_balance(description), _leaks(description), _users(description)]


def _size(description: Stored) -> Check:
    rows, asked = description["rows"], description.get("size")
    if asked is None:
        return Check("size", "note", f"{rows:,} rows: all that there are; no size was asked for.")
    if rows == asked:
        return Check("size", "pass", f"{rows:,} rows, as asked for.")
    return Check("size", "note", description.get("account") or f"{rows:,} of {asked:,} rows.")


def _balance(description: Stored) -> list[Check]:
    if description["source"] == "outcomes":
        sentence = "Not balanced: measured rows are all used, and the target is their gap."
        return [Check("balance", "note", sentence)]
    reasoning, fast = description["ratio"]
    wanted = reasoning / (reasoning + fast)
    if weighting := description.get("weighting"):
        return _weighted(weighting, wanted)
    shares = {
        split["name"]: split["reasoning"] / max(split["reasoning"] + split["fast"], 1)
        for split in _by_split(description["composition"])
    }
    off = max(abs(share - wanted) for share in shares.values())
    said = ", ".join(f"{name} {_percent(share)}" for name, share in shares.items())
    outcome = "pass" if off <= _NEAR_RATIO else "issue"
    balance = Check(
        "balance", outcome, f"Rows that are reasoning: {said}; {_percent(wanted)} was asked for."
    )
    return [balance, _strata(description, wanted)]


def _weighted(weighting: Stored, wanted: float) -> list[Check]:
    """What weights reach in place of drawing."""
    outcome = "pass" if abs(weighting["share"] - wanted) <= _NEAR_RATIO else "issue"
    balance = Check(
        "balance",
        outcome,
        f"Reasoning has {_percent(weighting['share'])} of the training rows' weight; "
        f"{_percent(wanted)} was asked for.",
    )
    places, capped = weighting["places"], weighting["capped_places"]
    if not places:
        return [balance, _ONE_PLACE]
    sentence = f"Weights make the {places} turn counts and positions of the training rows equal"
    if capped:
        sentence += (
            f", but for {capped}: a row's place makes it weigh at most "
            f"{weighting['most_for_place']:.0f} times as much, or as little"
        )
    return [balance, Check("strata", "note" if capped else "pass", f"{sentence}.")]


_ONE_PLACE = Check("strata", "note", "First turns alone: nothing is balanced by turn count.")


def _strata(description: Stored, wanted: float) -> Check:
    """Whether drawn training rows are equal by turn count, and balanced in each."""
    if description["architecture"] == "session":
        return _ONE_PLACE
    train = next(s for s in _by_split(description["composition"]) if s["name"] == "train")
    rows = {cell["stratum"]: cell["reasoning"] + cell["fast"] for cell in train["strata"]}
    off = [
        cell["stratum"]
        for cell in train["strata"]
        if abs(cell["reasoning"] - wanted * rows[cell["stratum"]]) > 1
    ]
    low, high = min(rows.values()), max(rows.values())
    size = f"{high:,}" if low == high else f"{low:,} to {high:,}"
    sentence = f"{len(rows)} turn counts with {size} training rows each"
    if off:
        sentence += f"; the ratio does not hold for {', '.join(off)} turns"
        return Check("strata", "issue", f"{sentence}.")
    sentence += ", the ratio inside every one"
    if high - low > max(1, high // 20):
        return Check("strata", "issue", f"{sentence}. The log has no more of the scarce ones.")
    return Check("strata", "pass", f"{sentence}.")


def _leaks(description: Stored) -> Check:
    crossing = {name: n for name, n in description["leaks"].items() if n and name != "users"}
    if crossing:
        said = " and ".join(f"{n:,} {name}" for name, n in crossing.items())
        return Check("leaks", "issue", f"In more than one split stand {said}.")
    near = near_sentence(description)
    sentence = f"No conversation and no text stands in more than one split; {near}."
    return Check("leaks", "pass", sentence)


def _users(description: Stored) -> Check:
    crossing = description["leaks"]["users"]
    if description.get("users_apart") is False:
        sentence = f"Too few users to split by them: {crossing:,} stand in more than one split."
        return Check("users", "issue", sentence)
    if crossing:
        return Check("users", "issue", f"{crossing:,} users stand in more than one split.")
    if description.get("users_apart"):
        return Check("users", "pass", "No user stands in more than one split.")
    return Check("users", "note", "The rows name no users.")


def _by_split(composition: Sequence[Stored]) -> list[dict[str, Any]]:
    """Each split with its strata and their sums."""
    return [
        {"name": name, "strata": cells}
        | {label: sum(cell[label] for cell in cells) for label in ("reasoning", "fast", "none")}
        for name, cells in (
            (name, list(group)) for name, group in groupby(composition, itemgetter("split"))
        )
    ]


def _quotas(quotas: Sequence[Stored]) -> list[dict[str, Any]]:
    """Taken and available rows of each turn count and position, by label; empty without places."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for quota in quotas:
        if quota["position"] is None:
            continue
        place = (quota["stratum"], quota["position"])
        row = rows.setdefault(place, {"stratum": place[0], "position": place[1]})
        taken = sum(quota[split] for split in ("train", "validation", "test"))
        row[ID2LABEL[quota["label"]]] = (taken, quota["available"])
    return list(rows.values())


def _percent(part: float, whole: float = 1.0) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"
