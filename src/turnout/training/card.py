"""The router's card: what it is, what it was made from, how sure it is; knows no model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from turnout.routing.folder import RouterSpec

_CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-classification
tags: [turnout, llm-routing]
---

# A {architecture} router

Scores how likely a user message needs a **reasoning** model (label 0) rather than a **fast** one
(label 1). Made by Turnout from {train:,} training and {validation:,} validation rows.

| | |
|---|---|
| base encoder | {base} |
| architecture | {architecture}: {reads} |
| token budget | {max_tokens} |
| threshold | {threshold} ({origin}) |
| calibration | {method}, scale {scale:.4f}, bias {bias:.4f}, folded into the weights |

## On its validation rows

These rows chose the epoch and the calibration, so the numbers are optimistic; `turnout evaluate`
gives honest ones, with intervals, beside trivial baselines.

| epoch | training loss | validation loss | validation AUROC |
|---|---|---|---|
{epochs}

Expected calibration error: {ece_before:.3f} before calibration, {ece_after:.3f} after.
The float graph strays from the model by at most {float_difference:.1e} in p_reasoning. The int8
graph's AUROC is {auroc_int8:.4f}, the float model's {auroc_float:.4f} ({rows} rows).

## Use

```python
import turnout

router = turnout.load("this/folder")
router.decide("Why does this deadlock?")
```

```python
from transformers import pipeline

pipeline("text-classification", model="this/folder", top_k=None)("Why does this deadlock?")
```

## Licence

The weights derive from {base}. The default base, all-MiniLM-L6-v2, is licensed under Apache-2.0;
another base keeps its own licence. The training rows are not in this folder.
"""


def write_card(folder: Path, spec: RouterSpec, facts: Mapping[str, Any]) -> None:
    """Write `README.md` into the router folder."""
    reads = {
        "session": "reads the first user message, decides once",
        "conversation": "reads the message, the turn index and previous turns, decides every turn",
    }
    epochs = "\n".join(
        f"| {e['epoch']} | {e['train_loss']:.4f} | {e['validation_loss']:.4f} "
        f"| {e['validation_auroc']:.4f} |"
        for e in facts["epochs"]
    )
    calibration, export = facts["calibration"], facts["export"]
    text = _CARD.format(
        architecture=facts["architecture"],
        reads=reads[facts["architecture"]],
        base=facts["base"],
        max_tokens=spec.max_tokens,
        threshold=spec.threshold,
        origin=spec.threshold_origin,
        epochs=epochs,
        train=facts["rows"]["train"],
        validation=facts["rows"]["validation"],
        **{k: calibration[k] for k in ("method", "scale", "bias", "ece_before", "ece_after")},
        **{k: export[k] for k in ("float_difference", "auroc_int8", "auroc_float", "rows")},
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
