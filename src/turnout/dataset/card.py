"""The data card: what a data set holds, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnout.dataset.description import usage_sentence

PLOTS_NAME = "plots"
# File → what it shows, in the card's order.
PLOTS = {
    "strata.svg": "Rows by stratum, split and label",
    "turns.svg": "Rows by turn index and label",
    "lengths.svg": "Length of the message by label",
    "evidence.svg": "Rows by evidence code and label",
    "models.svg": "Rows by the model that served them and label",
}

_CARD = """# A {architecture} data set

{rows:,} samples from {source}, made by Turnout (seed {seed}).
Label **0 = reasoning**, **1 = fast**.

{labels}

**{usage}** Duplicates count in the row that stands for them.

{used}

## Composition

{composition}
{account}
{plots}

## Leakage check

In more than one split stand {conversations} conversations, {texts} inputs to the encoder (message
and context together) and {users} users (expected: 0 each). {apart}; {near} before splitting.

## Columns

`message` and `context` are what the encoder reads, written by formatter version {formatter}.
`target` in [0, 1] is what training aims at (1 = needs reasoning), `label` its hard form, `weight`
how much a row counts, `evidence` why it has its label. `previous` keeps the turns before it, newest
first, with their answers, so that other views of the conversation can be tried. Cancelled and
failed turns are used too: the user's need was real.

```python
from datasets import load_dataset

load_dataset("parquet", data_files={{"train": "train.parquet", "test": "test.parquet"}})
```
"""

LABELS = {
    "turns": "The only evidence is the class of the model that served the turn (`model_choice`): "
    "what people chose, not what they needed.",
    "labels": "The target is what all evidence of the turn adds up to (`turnout label`), the "
    "weight how sure that is, the label its hard form. A code with `-` before it speaks for fast.",
    "outcomes": "The target is the measured gap between reasoning and fast models "
    "(`measured_outcomes`), or what the row itself states (`stated_target`). Prompts on which "
    "neither was shown carry no label.",
}


# By whether near duplicates stay.
_NEAR = {
    False: "exact and near duplicates were removed",
    True: "exact duplicates were removed and near ones put into one split",
}

_APART = {
    True: "Splits are by conversation, by user and by text",
    False: "Splits are by conversation and by text; the log has too few users to split by them",
    None: "Splits are by conversation and by text; the log names no users",
}


def near_sentence(description: Mapping[str, Any]) -> str:
    """What became of duplicates."""
    return _NEAR[description["source"] == "outcomes" or bool(description.get("weighting"))]


def _used(usage: Mapping[str, Any]) -> str:
    """A table of all turns: used, not used, not taken."""
    rows = [("used", "", usage["used"])]
    rows += [("not used", reason, n) for reason, n in usage["not_used"].items()]
    rows += [("not taken", reason, n) for reason, n in usage["not_taken"].items()]
    rows.append(("**all**", "", usage["turns"]))
    lines = ["| turns | why | how many |", "|---|---|---|"]
    lines += [f"| {what} | {why} | {n:,} |" for what, why, n in rows]
    return "\n".join(lines)


def card(description: Mapping[str, Any]) -> str:
    """The card's Markdown, from what `dataset.json` says."""
    counts = description["composition"]
    lines = ["| split | stratum | reasoning (0) | fast (1) | no label |", "|---|---|---|---|---|"]
    lines += [
        f"| {c['split']} | {c['stratum']} | {c['reasoning']:,} | {c['fast']:,} | {c['none']:,} |"
        for c in counts
    ]
    account = f"\n{description['account']}\n" if description.get("account") else ""
    if description["both_labels"]:
        account += (
            f"\nTexts with both labels: {description['both_labels']:,}. Each is one row, whose "
            "target is the weighted mean of its labels.\n"
        )
    labels = LABELS[description["source"]]
    if description.get("weighting"):
        labels += " Weights balance the rows too, so that none is left out for it."
    return _CARD.format(
        architecture=description["architecture"],
        rows=description["rows"],
        source=description["source"],
        seed=description["seed"],
        labels=labels,
        composition="\n".join(lines),
        account=account,
        plots="\n\n".join(f"![{title}]({PLOTS_NAME}/{name})" for name, title in PLOTS.items()),
        usage=usage_sentence(description),
        used=_used(description["usage"]),
        near=near_sentence(description),
        apart=_APART[description.get("users_apart")],
        formatter=description["formatter"]["version"],
        **description["leaks"],
    )
