"""What fine-tuned session routers keep under wrong labels; results in docs/results/wrong-labels.md.

Usage: python benchmarks/label_noise_encoder.py OUTPUT_FOLDER [--rows N] [--epochs N]
           [--test-seed 21] [--labels-alone]

OUTPUT_FOLDER is that of label_noise.py, with its simulated logs (they are made where absent). One
log's test rows are judged by what was learnt from N rows of the three others, fine-tuned at 64
tokens as `turnout train` does it, or with labels alone to aim at; training and validation labels
are flipped alike. The interval of the share kept resamples the test rows, the same for all.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from conversation_designs import margins_of, shown
from label_noise import NOISE_SHARE, SPLITS, Array, flips, read_log

from turnout.progress import silent
from turnout.records import LABEL_REASONING, ModelInput
from turnout.routing.encoding import InputEncoder
from turnout.samples import Samples
from turnout.stats.bootstrap import Resampling
from turnout.stats.metrics import auroc
from turnout.training.encoder import load_base
from turnout.training.loop import SplitView, fit
from turnout.training.optimizer import adamw
from turnout.training.precision import quick_attention
from turnout.training.recipe import Recipe
from turnout.training.split import TokenisedSplit, logits_of
from turnout.training.tfidf_teacher import MIN_ROWS, out_of_fold_targets

MAX_TOKENS = 64
VALIDATION_ROWS = 2000


def margins(
    train: tuple[list[str], Array],
    validation: tuple[list[str], Array],
    texts: list[str],
    recipe: Recipe,
    *,
    labels_alone: bool,
) -> Array:
    """Margins of the texts after a fit on texts and labels (1 = needs reasoning)."""
    encoder = load_base(None, recipe.seed)
    reader = InputEncoder(encoder.tokenizer, MAX_TOKENS)

    def view(texts: list[str], needs: Array) -> SplitView:
        n = len(texts)
        inputs = [ModelInput(text) for text in texts]
        samples = Samples(
            inputs=inputs,
            conversation_ids=[str(row) for row in range(n)],
            turn_indices=np.ones(n, np.int32),
            groups=[None] * n,
            cv_groups=[None] * n,
            labels=np.where(needs > 0.5, LABEL_REASONING, 1 - LABEL_REASONING).astype(np.int8),
            targets=needs.astype(np.float32),
            weights=np.ones(n, np.float32),
        )
        split = TokenisedSplit(samples, [reader.encode(row) for row in inputs])
        return SplitView(samples, split.lengths, logits_of(encoder.model, split, recipe.precision))

    train_view = view(*train)
    if not labels_alone and len(train_view.samples) >= MIN_ROWS:
        train_view = replace(
            train_view, teacher=out_of_fold_targets(train_view.samples, recipe.seed, silent)
        )
    with quick_attention(encoder.model, recipe.precision):
        done = fit(
            encoder.model,
            adamw(encoder.model, recipe.learning_rate, encoder.fresh),
            train_view,
            view(*validation),
            recipe,
        )
        print("epochs:", [round(epoch.validation_auroc, 3) for epoch in done.epochs], flush=True)
        return margins_of(view(texts, np.zeros(len(texts))))


def main() -> None:
    """Fit on true labels and on both kinds of flips, and print what is kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--test-seed", type=int, default=21)
    parser.add_argument("--seeds", type=int, nargs="+", default=[21, 22, 23, 24])
    parser.add_argument("--conversations", type=int, default=12_000)
    parser.add_argument("--labels-alone", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logs = {
        seed: read_log(arguments.out / f"log-{seed}", seed, arguments.conversations, embed=False)
        for seed in arguments.seeds
    }
    training_splits = [
        (log, split) for s, log in logs.items() if s != arguments.test_seed for split in SPLITS
    ]
    texts, truth, users, lengths = (
        np.concatenate([getattr(log, name)[split] for log, split in training_splits])
        for name in ("texts", "truth", "users", "lengths")
    )
    draw = np.random.default_rng(arguments.test_seed)
    order = draw.permutation(len(texts))
    validation, train = (
        order[:VALIDATION_ROWS],
        order[VALIDATION_ROWS : VALIDATION_ROWS + arguments.rows],
    )
    test = logs[arguments.test_seed]
    test_texts, needs = list(test.texts["test"]), test.truth["test"]
    scores_of = {}
    for kind in ("none", *NOISE_SHARE):
        wrong = flips(kind, lengths, users, draw) if kind != "none" else np.zeros(len(truth), bool)
        y = np.where(wrong, ~truth, truth).astype(float)
        scores_of[kind] = margins(
            (list(texts[train]), y[train]),
            (list(texts[validation]), y[validation]),
            test_texts,
            Recipe(epochs=arguments.epochs),
            labels_alone=arguments.labels_alone,
        )
    resampling = Resampling([str(row) for row in range(len(needs))])
    print(f"\n{len(train):,} training rows, {len(needs):,} test rows\n")
    print("| flips | AUROC | share kept |\n|---|---|---|")
    for kind, scores in scores_of.items():

        def share_kept(weights: Array, scores: Array = scores) -> Array:
            reached, clean = (auroc(s, needs, weights) - 0.5 for s in (scores, scores_of["none"]))
            return np.stack([reached + 0.5, reached / clean], axis=1)

        print(
            f"| {kind} | {' | '.join(map(shown, resampling.estimates(share_kept)))} |", flush=True
        )


if __name__ == "__main__":
    main()
