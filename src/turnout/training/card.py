"""The router folder's README.md."""

from __future__ import annotations

from pathlib import Path

from turnout.routing.folder import RouterSpec
from turnout.training.encoder import DEFAULT_BASE
from turnout.training.export import MAX_AUROC_LOSS, MIN_ROWS_A_CLASS
from turnout.training.report import TrainReport

_CARD = """---
license: {licence}
library_name: transformers
pipeline_tag: text-classification
tags: [turnout, llm-routing]
---

# A {report.architecture} router

Scores how likely a user message needs a **reasoning** model (label 0) rather than a **fast** one
(label 1). Made by Turnout.

| | |
|---|---|
| base encoder | {report.base} |
| architecture | {report.architecture}: {reads} |
| training rows | {report.rows[train]:,}, of which {report.labelled_rows[train]:,} carry a label\
{shuffled}{teacher} |
| validation rows | {report.rows[validation]:,}, of which {report.labelled_rows[validation]:,} \
carry a label |
| token budget | {spec.max_tokens}; {report.cut_rows:,} training rows were longer and were cut |
| threshold | {spec.threshold} ({spec.threshold_origin}) |

## On its validation rows

These rows chose the epoch and fitted the calibration, so the numbers are optimistic: `turnout
evaluate` gives honest ones, with intervals, beside trivial baselines.

| epoch | training loss | validation loss | validation AUROC |
|---|---|---|---|
{epochs}

The weights are those of epoch {report.best_epoch.epoch}.

| calibration | scale | bias | rows | expected calibration error before | after |
|---|---|---|---|---|---|
| {cal.method} | {cal.scale:.4f} | {cal.bias:.4f} | {cal.n:,} | {cal.ece_before:.3f} \
| {cal.ece_after:.3f} |

The calibration is folded into the weights: every file of this folder gives calibrated scores.

| graph | rows compared | largest difference in p_reasoning | AUROC |
|---|---|---|---|
| the model | | | {export.auroc_float:.4f} |
| model.onnx | {export.float_rows:,} | {export.float_difference:.1e} | |
| model.int8.onnx | {export.int8_rows:,} | {export.int8_difference:.1e} | {export.auroc_int8:.4f} |

{binding}

## Use

```python
import turnout

router = turnout.load("this/folder")
router.decide("Why does this deadlock?")
```

```python
from transformers import pipeline

classify = pipeline("text-classification", model="this/folder", top_k=None)
classify("Why does this deadlock?", truncation=True)
```

Plain transformers cuts a text of more than {spec.max_tokens} tokens at its end; Turnout keeps its
head and tail. Shorter texts score alike.
Without `top_k=None` a pipeline shows the likelier label's score alone.

## Licence

The weights derive from {report.base} and keep its licence. The training rows are not in this
folder.
"""

_READS = {
    "session": "reads the first user message, decides once",
    "conversation": "reads the message, the turn index and previous turns, decides every turn",
}


def write_card(folder: Path, spec: RouterSpec, report: TrainReport) -> None:
    """Write `README.md` into the router folder."""
    epochs = "\n".join(
        f"| {result.epoch} | {result.train_loss:.4f} | {result.validation_loss:.4f} "
        f"| {result.validation_auroc:.4f} |"
        for result in report.epochs
    )
    text = _CARD.format(
        spec=spec,
        report=report,
        cal=report.calibration,
        export=report.export,
        epochs=epochs,
        reads=_READS[report.architecture],
        shuffled=_shuffled(report.shuffled_rows),
        teacher=_teacher(report.teacher_weight),
        binding=_binding(report.export.binding),
        licence="apache-2.0" if report.base == DEFAULT_BASE else "other",
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _shuffled(rows: int) -> str:
    if not rows:
        return ""
    return f"; {rows:,} first messages were shown again after another conversation's turns"


def _teacher(weight: float) -> str:
    if not weight:
        return ""
    return (
        "; as TF-IDF explains little of the labels, a TF-IDF teacher made up "
        f"{weight:.0%} of the targets at first, less later"
    )


def _binding(binding: bool) -> str:
    if binding:
        return f"The int8 graph was held to a loss of at most {MAX_AUROC_LOSS} AUROC."
    return (
        f"With fewer than {MIN_ROWS_A_CLASS} rows of a label, the int8 graph's AUROC was recorded "
        "and not judged."
    )
