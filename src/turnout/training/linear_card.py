"""The README.md of a router that is a linear model on words."""

from __future__ import annotations

from pathlib import Path

from turnout.routing.folder import RouterSpec
from turnout.training.card import READS, scores_text
from turnout.training.linear import FIELDS, LinearModel
from turnout.training.report import TrainReport

_CARD = """---
license: other
library_name: onnx
pipeline_tag: text-classification
tags: [turnout, llm-routing]
---

# A {report.architecture} router on words

Scores how likely a user message needs a **reasoning** model (label 0) rather than a **fast** one
(label 1). Made by Turnout.

**It is a linear model on words, no BERT**: logistic regression on the TF-IDF of tokens and pairs of
tokens; message, header and previous turns count apart. It knows no word that its training rows did
not have, and no order beyond two tokens. {why}

| | |
|---|---|
| tokenizer | that of {report.base} |
| architecture | {report.architecture}: {reads} |
| training rows | {report.rows[train]:,}, of which {report.labelled_rows[train]:,} carry a label |
| validation rows | {report.rows[validation]:,}, of which {report.labelled_rows[validation]:,} \
carry a label |
| features | {features} |
| fitted on | training and validation rows, once everything else was chosen |
| penalty | C = {penalty:g}, chosen by cross-validation on the training rows |
| scale of the context | {scales}, chosen in the same way; the message has 1 |
| token budget | {spec.max_tokens:,}; {report.cut_rows:,} training rows were longer and were cut |
| scores | {scores} |
| threshold | {spec.threshold} for {spec.threshold_population} scores ({spec.threshold_origin}) |

| calibration | scale | bias | rows | expected calibration error before | after |
|---|---|---|---|---|---|
| {cal.method} | {cal.scale:.4f} | {cal.bias:.4f} | {cal.n:,} | {cal.ece_before:.3f} \
| {cal.ece_after:.3f} |

AUROC on the validation rows is {export.auroc_float:.4f}, of a model that was fitted on the training
rows alone. All rows fitted the calibration, each scored by a model that had not seen it, so its
errors are optimistic: `turnout evaluate` gives honest numbers, with intervals, beside trivial
baselines.

model.onnx ({megabytes:.1f} MB, float32) serves. On {export.float_rows:,} rows its scores differ
from scikit-learn's by {export.float_difference:.1e} at most.

## Use

```python
import turnout

router = turnout.load("this/folder")
router.decide("Why does this deadlock?")
```

Plain `transformers` cannot load it: there is no encoder in this folder.

## Licence

The tokenizer derives from {report.base} and keeps its licence. The training rows are not in this
folder; words and pairs of words that stand in two of them or more are, as features.
`reference.json` has histograms of the traffic, for `turnout drift`: no message can be read from it.
"""


def write_words_card(
    folder: Path, spec: RouterSpec, report: TrainReport, model: LinearModel
) -> None:
    """Write `README.md` into the router folder."""
    features = ", ".join(
        f"{len(part.idf):,} of the {FIELDS[part.field]}" for part in model.features.fields
    )
    text = _CARD.format(
        spec=spec,
        report=report,
        cal=report.calibration,
        export=report.export,
        reads=READS[report.architecture],
        scores=scores_text(spec.priors),
        why=_why(report),
        features=features,
        penalty=model.penalty,
        scales=f"previous turns {model.scales.previous_turns:g}, header {model.scales.header:g}",
        megabytes=report.export.served_bytes / 1e6,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _why(report: TrainReport) -> str:
    if report.choice is None:
        return "Whoever trained it asked for this model, with `--model words`."
    return f"It serves because of what both models did on validation: {report.choice.text}."
