"""Two conversation routers side by side: one pass over all turns, or a kept vector for every turn.

Usage: python benchmarks/conversation_designs.py DATASET TRUTH.parquet [--seeds N] [--epochs N]

DATASET is a conversation data set that `turnout build` wrote from a simulated log, TRUTH.parquet
what each turn of that log needed. Both designs start from the same encoder and have the same rows,
rates and steps:

- joint: message, turn index and previous turns are one input of the encoder, as Turnout ships it;
- cached turns: every message is encoded alone, once; a layer of attention looks at its vector (the
  mean of its tokens), at those of up to eight turns before it, their places and the turn index. A
  session would keep the vectors, so that a turn costs one message however long it is.

Prints what each epoch reaches, AUROC against the truth on the test rows with paired 95 % intervals
over conversations, and what a decision costs at turns 9 to 11.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from turnout.records import LABEL_REASONING, ModelInput, Turn
from turnout.routing import Formatter
from turnout.routing.encoding import InputEncoder, TokenIds
from turnout.samples import DatasetFolder, Samples
from turnout.stats.bootstrap import Estimate, Resampling
from turnout.stats.metrics import auroc
from turnout.tables import read_known_labels
from turnout.training.batches import batch_rows, padded
from turnout.training.encoder import BaseEncoder, load_base
from turnout.training.fitting import DEFAULT_MAX_TOKENS
from turnout.training.loop import SplitView, fit
from turnout.training.optimizer import adamw
from turnout.training.precision import autocast, quick_attention
from turnout.training.recipe import Recipe
from turnout.training.split import TokenisedSplit, logits_of

Rows = NDArray[np.int64]
Logits = Callable[[Rows], torch.Tensor]
Floats = NDArray[np.float64]

SPLITS = ("train", "validation", "test")
MAX_VECTORS = 9
HEADS = 6
# Last turns of the buckets of turn indices that the head tells apart.
INDEX_BUCKETS = (1, 2, 5, 10, 20)
LATE_TURNS = (9, 11)
TIMED_ROWS = 150
ENCODE_ROWS = 32


class CachedTurns(torch.nn.Module):
    """Vectors of messages, newest first → two logits."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        width = encoder.config.hidden_size
        self.place = torch.nn.Embedding(MAX_VECTORS, width)
        self.index = torch.nn.Embedding(len(INDEX_BUCKETS) + 1, width)
        for table in (self.place, self.index):
            torch.nn.init.normal_(table.weight, std=0.02)
        self.attention = torch.nn.TransformerEncoderLayer(
            width, HEADS, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.norm = torch.nn.LayerNorm(width)
        self.head = torch.nn.Linear(2 * width, 2)

    def vectors(self, tokens: Sequence[TokenIds]) -> torch.Tensor:
        """Means of token states, shape `(len(tokens), width)`."""
        batch = padded(tokens, 0, max(len(message.ids) for message in tokens))
        states = self.encoder(
            batch.input_ids, batch.attention_mask, batch.token_type_ids
        ).last_hidden_state
        mask = batch.attention_mask[..., None].to(states.dtype)
        return (states * mask).sum(1) / mask.sum(1)

    def decide(
        self, vectors: torch.Tensor, known: torch.Tensor, bucket: torch.Tensor
    ) -> torch.Tensor:
        """Logits from `(b, MAX_VECTORS, width)`, of which `known` says which are there."""
        shown = vectors + self.place.weight
        shown = torch.cat([shown[:, :1] + self.index(bucket)[:, None], shown[:, 1:]], 1)
        attended = self.norm(self.attention(shown, src_key_padding_mask=~known)[:, 0])
        return self.head(torch.cat([attended, vectors[:, 0]], -1))


class Messages:
    """Every split's messages with those before them, each tokenised alone."""

    def __init__(self, data: DatasetFolder, reader: InputEncoder) -> None:
        alone = Formatter("session")
        token_ids: dict[str, TokenIds] = {}

        def tokens(message: str) -> TokenIds:
            if message not in token_ids:
                token_ids[message] = reader.encode(alone.format([Turn(message)]))
            return token_ids[message]

        self.samples = {name: data.split(name) for name in SPLITS}
        self.messages = {
            name: [
                [tokens(row.message), *(tokens(turn.user_message) for turn in before)][:MAX_VECTORS]
                for row, before in zip(samples.inputs, data.previous(name) or [], strict=True)
            ]
            for name, samples in self.samples.items()
        }

    def view(self, model: CachedTurns, name: str) -> SplitView:
        """A split as the loop sees it."""
        lengths = [sum(len(message.ids) for message in row) for row in self.messages[name]]
        return SplitView(
            self.samples[name], np.asarray(lengths), partial(self._logits, model, name)
        )

    def _logits(self, model: CachedTurns, name: str, rows: Rows) -> torch.Tensor:
        messages = [self.messages[name][row] for row in rows]
        places = [
            (row_index, back) for row_index, row in enumerate(messages) for back in range(len(row))
        ]
        flat = [message for row in messages for message in row]
        width = model.place.embedding_dim
        vectors = torch.zeros(len(rows), MAX_VECTORS, width)
        known = torch.zeros(len(rows), MAX_VECTORS, dtype=torch.bool)
        with autocast(torch.device("cpu"), "auto"):
            for part in batch_rows(np.asarray([len(message.ids) for message in flat]), ENCODE_ROWS):
                row_numbers, turns_back = torch.tensor([places[n] for n in part]).T
                encoded = model.vectors([flat[n] for n in part]).float()
                vectors = vectors.index_put((row_numbers, turns_back), encoded)
                known[row_numbers, turns_back] = True
            return model.decide(vectors, known, self._buckets(name, rows))

    def _buckets(self, name: str, rows: Rows) -> torch.Tensor:
        turns = self.samples[name].turn_indices[rows]
        return torch.from_numpy(np.searchsorted(INDEX_BUCKETS, turns))


def main() -> None:
    """Fit both designs on every seed, and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=Recipe().epochs)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, truth = DatasetFolder.read(arguments.data), read_known_labels(arguments.truth)
    recipes = [Recipe(epochs=arguments.epochs, seed=seed) for seed in range(arguments.seeds)]
    scores: dict[str, list[Floats]] = {"joint": [], "cached turns": []}
    for recipe in recipes:
        for name, design in (("joint", joint), ("cached turns", cached_turns)):
            scores[name].append(design(data, recipe))
    compare(data.split("test"), truth, scores)


def joint(data: DatasetFolder, recipe: Recipe) -> Floats:
    """Scores of the test rows after one fit as `turnout train` does it."""
    encoder = load_base(None, recipe.seed)
    reader = InputEncoder(encoder.tokenizer, DEFAULT_MAX_TOKENS["conversation"])

    def view(name: str) -> SplitView:
        samples = data.split(name)
        split = TokenisedSplit(samples, [reader.encode(row) for row in samples.inputs])
        return SplitView(samples, split.lengths, logits_of(encoder.model, split, recipe.precision))

    views = {name: view(name) for name in SPLITS}
    scores = fitted("joint", encoder, encoder.model, encoder.fresh, views, recipe)
    late = _late(views["test"].samples)
    inputs = [views["test"].samples.inputs[row] for row in late]
    _timed("joint", [partial(_joint_decision, encoder, reader, row) for row in inputs])
    return scores


def cached_turns(data: DatasetFolder, recipe: Recipe) -> Floats:
    """Scores of the test rows after one fit of the other design."""
    encoder = load_base(None, recipe.seed)
    reader = InputEncoder(encoder.tokenizer, DEFAULT_MAX_TOKENS["session"])
    messages = Messages(data, reader)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = CachedTurns(encoder.model.base_model).eval()
    fresh = frozenset(n for n, _ in model.named_parameters() if not n.startswith("encoder."))
    views = {name: messages.view(model, name) for name in SPLITS}
    scores = fitted("cached turns", encoder, model, fresh, views, recipe)
    late = _late(messages.samples["test"])
    _timed(
        "cached turns", [partial(_cached_decision, model, messages, reader, row) for row in late]
    )
    return scores


def fitted(
    name: str,
    encoder: BaseEncoder,
    model: torch.nn.Module,
    fresh: frozenset[str],
    views: dict[str, SplitView],
    recipe: Recipe,
) -> Floats:
    """Fit, tell how it went, score the test rows."""
    began = time.process_time()
    optimizer = adamw(model, recipe.learning_rate, fresh)
    with quick_attention(encoder.model, recipe.precision):
        done = fit(model, optimizer, views["train"], views["validation"], recipe)
        test = margins_of(views["test"])
    for epoch in done.epochs:
        print(
            f"{name}, seed {recipe.seed}, epoch {epoch.epoch}: validation loss "
            f"{epoch.validation_loss:.4f}, AUROC by the labels {epoch.validation_auroc:.3f}"
        )
    print(f"{name}, seed {recipe.seed}: {time.process_time() - began:.0f} s of CPU", flush=True)
    return test


def compare(
    test: Samples, truth: dict[tuple[str, int], int], scores: dict[str, list[Floats]]
) -> None:
    """Print AUROC against the truth, and the lead of one design over the other."""
    needs = _needs(test, truth)
    print("\n| rows | seed | joint | cached turns | cached turns ahead by |\n|---|---|---|---|---|")
    for rows, name in (
        (test.turn_indices > 0, "all"),
        (test.turn_indices == 1, "turn 1"),
        (test.turn_indices > 1, "turn 2 and later"),
    ):
        resampling = Resampling([test.conversation_ids[row] for row in np.flatnonzero(rows)])
        for seed, (joint, cached) in enumerate(zip(*scores.values(), strict=True)):

            def aurocs(
                weights: Floats, a: Floats = joint[rows], b: Floats = cached[rows]
            ) -> Floats:
                a, b = (auroc(s, needs[rows], weights) for s in (a, b))  # noqa: B023
                return np.stack([a, b, b - a], axis=1)

            print(f"| {name} | {seed} | {' | '.join(map(shown, resampling.estimates(aurocs)))} |")


def margins_of(view: SplitView) -> Floats:
    """Logit of reasoning less that of fast, shape `(n,)`, in the precision of the fit."""
    margins = np.zeros(len(view.samples))
    with torch.inference_mode():
        for rows in batch_rows(view.lengths, ENCODE_ROWS):
            logits = view.logits(rows).float().numpy()
            margins[rows] = logits[:, LABEL_REASONING] - logits[:, 1 - LABEL_REASONING]
    return margins


def _needs(samples: Samples, truth: dict[tuple[str, int], int]) -> NDArray[np.bool_]:
    keys = zip(samples.conversation_ids, samples.turn_indices.tolist(), strict=True)
    return np.asarray([truth[key] == LABEL_REASONING for key in keys])


def _late(samples: Samples) -> Rows:
    first, last = LATE_TURNS
    turns = samples.turn_indices
    return np.flatnonzero((turns >= first) & (turns <= last))[:TIMED_ROWS]


def _joint_decision(encoder: BaseEncoder, reader: InputEncoder, row: ModelInput) -> None:
    batch = padded([reader.encode(row)], 0, reader.max_tokens)
    encoder.model(batch.input_ids, batch.attention_mask, batch.token_type_ids)


def _cached_decision(
    model: CachedTurns, messages: Messages, reader: InputEncoder, row: int
) -> None:
    message = messages.samples["test"].inputs[row].message
    vector = model.vectors([reader.encode(ModelInput(message))])
    known = torch.zeros(1, MAX_VECTORS, dtype=torch.bool)
    known[0, : len(messages.messages["test"][row])] = True
    vectors = torch.zeros(1, MAX_VECTORS, vector.shape[1])
    vectors[0, 0] = vector[0]
    model.decide(vectors, known, torch.tensor([len(INDEX_BUCKETS) - 1]))


def _timed(name: str, decisions: Sequence[Callable[[], None]]) -> None:
    spent = []
    with torch.inference_mode():
        for decision in decisions:
            began = time.process_time()
            decision()
            spent.append(1000 * (time.process_time() - began))
    print(
        f"{name}: {np.median(spent):.1f} ms of CPU time a decision at turns "
        f"{LATE_TURNS[0]} to {LATE_TURNS[1]} (median of {len(spent)}, float32, one thread)",
        flush=True,
    )


def shown(estimate: Estimate) -> str:
    """A number and its interval."""
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


if __name__ == "__main__":
    main()
