"""The router folder's README.md."""

from __future__ import annotations

from pathlib import Path

from turnout.routing import Priors
from turnout.routing.folder import RouterSpec
from turnout.training.encoder import DEFAULT_BASE
from turnout.training.quantisation import MAX_AUROC_LOSS, MAX_MEAN_DIFFERENCE, MIN_ROWS_A_CLASS
from turnout.training.report import ExportCheck, TrainReport

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
| trained in | {precision} |
| scores | {scores} |
| threshold | {spec.threshold} for {spec.threshold_population} scores ({spec.threshold_origin}) |

## On its validation rows

These rows chose the epoch and fitted the calibration, so the numbers are optimistic: `turnout
evaluate` gives honest ones, with intervals, beside trivial baselines.

| epoch | training loss | validation loss | validation AUROC |
|---|---|---|---|
{epochs}

The weights are those of epoch {report.best_epoch.epoch}.{choice}

| calibration | scale | bias | rows | expected calibration error before | after |
|---|---|---|---|---|---|
| {cal.method} | {cal.scale:.4f} | {cal.bias:.4f} | {cal.n:,} | {cal.ece_before:.3f} \
| {cal.ece_after:.3f} |

The calibration is folded into the weights, rows counted by their weights: every file of this folder
gives calibrated scores of balanced rows.

| graph | rows compared | difference in p_reasoning: largest | mean | AUROC |
|---|---|---|---|---|
| the model | | | | {export.auroc_float:.4f} |
| model.onnx | {export.float_rows:,} | {export.float_difference:.1e} | | |
{int8}

{serves}

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

Without `top_k=None` a pipeline shows the likelier label's score alone. Of a text of more than
{spec.max_tokens} tokens a pipeline cuts the end, and without `truncation=True` it may fail; Turnout
keeps head and tail. These lines do so too, for a `tokenizer` and a `model` of plain transformers,
and give a first message the float score for balanced rows:

```python
ids = tokenizer(text, add_special_tokens=False)["input_ids"]
ends = tokenizer("")["input_ids"]
room = {spec.max_tokens} - len(ends)
ids = ids if len(ids) <= room else ids[: room - room // 4] + ids[len(ids) - room // 4 :]
p_reasoning = model(torch.tensor([ends[:1] + ids + ends[1:]])).logits.softmax(-1)[0, 0].item()
```

## Licence

The weights derive from {report.base} and keep its licence. The training rows are not in this
folder. `reference.json` has histograms of the traffic, for `turnout drift`: no message can be read
from it.
"""

READS = {
    "session": "reads the first user message, decides once",
    "conversation": "reads the message, turn index, lengths and previous turns, decides every turn",
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
        reads=READS[report.architecture],
        shuffled=_shuffled(report.shuffled_rows),
        teacher=_teacher(report.teacher_weight),
        choice=f"\n\nBeside a linear model on words: {report.choice.text}."
        if report.choice
        else "",
        precision=report.precision_text,
        scores=scores_text(spec.priors),
        int8=_int8(report.export),
        serves=_serves(report.export),
        licence="apache-2.0" if report.base == DEFAULT_BASE else "other",
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def scores_text(priors: Priors) -> str:
    """Which population the scores are for."""
    balanced = f"for balanced rows ({priors.balanced:.0%} reasoning by weight)"
    if priors.log is None:
        return balanced
    return (
        f"in these files {balanced}; `turnout` gives them for the log ({priors.log:.0%} "
        "reasoning) unless asked for balanced ones"
    )


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


def _int8(export: ExportCheck) -> str:
    return "\n".join(
        f"| int8, {check.float_products} of {check.products} products in float32 "
        f"| {check.rows:,} | {check.largest_difference:.1e} | {check.mean_difference:.1e} "
        f"| {check.auroc:.4f} |"
        for check in export.int8
    )


def _serves(export: ExportCheck) -> str:
    if export.serves == "float32":
        return (
            "There is no int8 graph, as none came close enough to the model: model.onnx serves, "
            "more slowly."
        )
    loss = (
        f"and {MAX_AUROC_LOSS} AUROC lost"
        if export.judged_by_auroc
        else f"(with fewer than {MIN_ROWS_A_CLASS} rows of a label, AUROC was not judged)"
    )
    return (
        "model.int8.onnx serves: it is the last of these, held to a mean difference of "
        f"{MAX_MEAN_DIFFERENCE} {loss} at most."
    )
