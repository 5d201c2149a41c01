"""What helps against wrong labels, on simulated truth; results in docs/results/wrong-labels.md.

Usage: python benchmarks/label_noise.py OUTPUT_FOLDER [--seeds 21 22 23 24] [--conversations 12000]
           [--no-embeddings] [--rows-only]

Two kinds of flips of the true labels of training and validation rows: 40 % of all, and 30 % that
depend on the message's length and on the user. Every method is a linear model, on TF-IDF and on
frozen embeddings of the default encoder; its penalty is chosen on the flipped validation labels.
What counts is the share kept of (AUROC - 0.5) against the truth of the test rows, where 1 is the
plain model on true labels. Intervals are over logs (Student's t). The last table says what more
rows are worth to the plain model on TF-IDF; `--rows-only` prints it alone, for logs too long for
every method.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from cleanlab.filter import find_label_issues
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import t as student
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import roc_auc_score

from turnout.samples import DatasetFolder, Samples

NOISE_SHARE = {"uniform": 0.40, "length and user": 0.30}
DRAWS = 2
FOLDS = 5
ROWS = (2_500, 5_000, 10_000, 19_000, 50_000)
STRENGTHS = (0.003, 0.03, 0.3, 3.0)
SPLITS = ("train", "validation", "test")

Array = np.ndarray
Loss = Callable[[Array, Array], tuple[Array, Array]]  # margins, labels → value, slope
Model = Callable[[Array], Array]  # features → margins


@dataclass(frozen=True)
class Log:
    """One simulated log: per split the features, the truth (1 = needs reasoning), and who wrote."""

    features: dict[str, dict[str, np.ndarray]]  # kind → split → (n, d)
    texts: dict[str, np.ndarray]
    truth: dict[str, np.ndarray]
    users: dict[str, np.ndarray]
    lengths: dict[str, np.ndarray]


def cross_entropy(z: Array, y: Array) -> tuple[Array, Array]:
    """Value and slope, for hard and soft labels."""
    return np.logaddexp(0, z) - y * z, expit(z) - y


def generalised(z: Array, y: Array, q: float = 0.7) -> tuple[Array, Array]:
    """Zhang and Sabuncu (2018), "Generalized cross entropy loss"."""
    sign = 2 * y - 1
    p = expit(sign * z)
    return (1 - p**q) / q, -sign * p**q * (1 - p)


def symmetric(
    z: Array, y: Array, weight: float = 1.0, log_zero: float = 4.0
) -> tuple[Array, Array]:
    """Wang et al. (2019), "Symmetric cross entropy for robust learning with noisy labels"."""
    sign = 2 * y - 1
    p = expit(sign * z)
    value, slope = cross_entropy(z, y)
    return value + weight * log_zero * (1 - p), slope - weight * log_zero * sign * p * (1 - p)


def forward(rate: float) -> Loss:
    """Patrini et al. (2017), "Making deep neural networks robust to label noise"."""

    def loss(z: Array, y: Array) -> tuple[Array, Array]:
        clean = expit(z)
        p = rate + (1 - 2 * rate) * clean
        value = -(y * np.log(p) + (1 - y) * np.log(1 - p))
        return value, (p - y) / (p * (1 - p)) * (1 - 2 * rate) * clean * (1 - clean)

    return loss


def fit(
    x: Array, y: Array, strength: float, loss: Loss = cross_entropy, weights: Array | None = None
) -> Model:
    """A linear model; the penalty is that of logistic regression with C = strength."""
    weights = np.ones(len(y)) if weights is None else weights

    def objective(parameters: Array) -> tuple[float, Array]:
        w, b = parameters[:-1], parameters[-1]
        value, slope = loss(x @ w + b, y)
        slope = slope * weights
        gradient = np.append(x.T @ slope + w / strength, slope.sum())
        return (value * weights).sum() + w @ w / (2 * strength), gradient

    solution = minimize(
        objective, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 100}
    ).x
    return lambda features: features @ solution[:-1] + solution[-1]


def best_fit(
    x: Array, y: Array, x_validation: Array, y_validation: Array, **how: Loss | Array
) -> tuple[Model, float]:
    """The fit whose penalty does best on the flipped validation labels, and the penalty."""
    fits = {strength: fit(x, y, strength, **how) for strength in STRENGTHS}
    best = max(STRENGTHS, key=lambda s: roc_auc_score(y_validation, fits[s](x_validation)))
    return fits[best], best


def out_of_fold(x: Array, y: Array, strength: float, draw: np.random.Generator) -> Array:
    """Probabilities of rows by models that did not see them."""
    fold = draw.permutation(len(y)) % FOLDS
    p = np.zeros(len(y))
    for k in range(FOLDS):
        model = fit(x[fold != k], y[fold != k], strength)
        p[fold == k] = expit(model(x[fold == k]))
    return p


def reliability_of_users(users: Array, y: Array, p: Array) -> Array:
    """How far a user's labels agree with models that did not see them; 20 rows of the mean."""
    agrees = ((p > 0.5) == (y > 0.5)).astype(float)
    mean = agrees.mean()
    weights = np.zeros(len(y))
    for user in np.unique(users):
        of_user = users == user
        weights[of_user] = (agrees[of_user].sum() + 20 * mean) / (of_user.sum() + 20)
    return np.clip(2 * weights - 1, 0.02, 1.0)


def co_teaching(
    x: Array, y: Array, strength: float, keep: float, draw: np.random.Generator
) -> Model:
    """Han et al. (2018): each of two models picks the rows of small loss for the other."""
    halves = [draw.permutation(len(y))[: len(y) // 2] for _ in range(2)]
    models = [fit(x[rows], y[rows], strength) for rows in halves]
    for _ in range(5):
        picked = [np.argsort(cross_entropy(m(x), y)[0])[: int(keep * len(y))] for m in models]
        models = [fit(x[rows], y[rows], strength) for rows in reversed(picked)]
    return lambda features: models[0](features) + models[1](features)


def methods(
    x: Array,
    y: Array,
    x_validation: Array,
    y_validation: Array,
    users: Array,
    rate: float,
    draw: np.random.Generator,
) -> dict[str, Model]:
    """Name → margin function, every method on the same flipped labels."""
    plain, strength = best_fit(x, y, x_validation, y_validation)
    p = out_of_fold(x, y, strength, draw)
    issues = find_label_issues(y.astype(int), np.column_stack([1 - p, p]))
    agreed = (p > 0.5) == (y > 0.5)
    bags = [draw.integers(0, len(y), len(y)) for _ in range(10)]
    bagged = [fit(x[rows], y[rows], strength) for rows in bags]

    def best(rows: Array | slice = slice(None), targets: Array = y, **how: Loss | Array) -> Model:
        return best_fit(x[rows], targets[rows], x_validation, y_validation, **how)[0]

    return {
        "plain": plain,
        "label smoothing 0.2": best(targets=0.8 * y + 0.1),
        "soft labels: half label, half out-of-fold": best(targets=0.5 * y + 0.5 * p),
        "soft labels: out-of-fold": best(targets=p),
        "confident learning, dropped (cleanlab)": best(rows=np.flatnonzero(~issues)),
        "agreement filtering": best(rows=np.flatnonzero(agreed)),
        "co-teaching (told the rate)": co_teaching(x, y, strength, 1 - rate, draw),
        "generalised cross-entropy": best(loss=generalised),
        "symmetric cross-entropy": best(loss=symmetric),
        "forward correction (told the rate)": best(loss=forward(rate)),
        "users weighed by agreement": best(weights=reliability_of_users(users, y, p)),
        "ten bootstraps averaged": lambda features: sum(model(features) for model in bagged),
    }


def flips(kind: str, lengths: Array, users: Array, draw: np.random.Generator) -> Array:
    """Which labels are wrong. By length and user: a careless user's long messages, mostly."""
    share = NOISE_SHARE[kind]
    if kind == "uniform":
        return draw.random(len(lengths)) < share
    rank = np.argsort(np.argsort(lengths)) / len(lengths)
    names = np.unique(users)
    habit = dict(zip(names, draw.choice([0.25, 1.0, 1.75], len(names)), strict=True))
    p = (0.4 + 1.2 * rank) * np.asarray([habit[user] for user in users])
    return draw.random(len(lengths)) < np.clip(p * share / p.mean(), 0, 0.95)


def measure(log: Log, kind: str, features: str, seed: int) -> dict[str, float]:
    """Method → share kept of the clean (AUROC - 0.5), one draw of flips."""
    draw = np.random.default_rng(seed)
    x, x_validation, x_test = (log.features[features][split] for split in SPLITS)
    true = [log.truth[split].astype(float) for split in SPLITS]
    clean = roc_auc_score(true[2], best_fit(x, true[0], x_validation, true[1])[0](x_test)) - 0.5
    # Users have one habit in both splits: flips are drawn for both together.
    lengths = np.concatenate([log.lengths[split] for split in SPLITS[:2]])
    users = np.concatenate([log.users[split] for split in SPLITS[:2]])
    wrong = flips(kind, lengths, users, draw)
    flipped = np.where(wrong, 1 - np.concatenate(true[:2]), np.concatenate(true[:2]))
    y, y_validation = flipped[: len(true[0])], flipped[len(true[0]) :]
    fitted = methods(x, y, x_validation, y_validation, users[: len(y)], NOISE_SHARE[kind], draw)
    return {"clean AUROC": clean + 0.5} | {
        name: (roc_auc_score(true[2], margin(x_test)) - 0.5) / clean
        for name, margin in fitted.items()
    }


def by_rows(logs: dict[int, Log]) -> list[list]:
    """Share kept by the plain model on TF-IDF, by how many rows it learns from.

    A log's test rows are judged by what was learnt from all rows of the other logs.
    """
    measurements = []
    for seed, test_log in logs.items():
        training_splits = [(log, split) for s, log in logs.items() if s != seed for split in SPLITS]
        texts, truth, users, lengths = (
            np.concatenate([getattr(log, name)[split] for log, split in training_splits])
            for name in ("texts", "truth", "users", "lengths")
        )
        draw = np.random.default_rng(seed)
        order = draw.permutation(len(texts))
        validation, train = order[:2000], order[2000:]
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
        x = vectorizer.fit_transform(texts)
        x_test = vectorizer.transform(test_log.texts["test"])
        true = truth.astype(float)
        for kind in ("none", *NOISE_SHARE):
            wrong = (
                flips(kind, lengths, users, draw) if kind != "none" else np.zeros(len(true), bool)
            )
            y = np.where(wrong, 1 - true, true)
            sizes = [size for size in ROWS if size < len(train)]
            for rows in (*sizes, len(train)):
                few = train[:rows]
                margin = best_fit(x[few], y[few], x[validation], y[validation])[0]
                auroc = roc_auc_score(test_log.truth["test"], margin(x_test))
                name = f"{rows:,}" if rows in sizes else "all of the other logs"
                measurements.append([seed, kind, name, auroc])
    return measurements


def read_log(folder: Path, seed: int, conversations: int, *, embed: bool) -> Log:
    """Simulate, ingest and build once; features are kept beside."""
    data = folder / "data"
    if not data.is_dir():
        run = lambda *words: subprocess.run(["turnout", *map(str, words)], check=True)  # noqa: E731
        run("simulate", "-o", folder / "log", "--conversations", conversations, "--seed", seed)
        run("ingest", folder / "log" / "turns.parquet", "-o", folder / "turns.parquet")
        size = conversations * 7 // 12
        run("build", folder / "turns.parquet", "-o", data, "--architecture", "session",
            "--size", size, "--split", "36:9:55")  # fmt: skip
    samples = {split: DatasetFolder.read(data).split(split) for split in SPLITS}
    first = pq.read_table(folder / "turns.parquet", filters=[("turn_index", "=", 1)])
    user_of = dict(
        zip(first["conversation_id"].to_pylist(), first["user_id"].to_pylist(), strict=True)
    )
    known = pq.read_table(folder / "log" / "truth.parquet", filters=[("turn_index", "=", 1)])
    label_of = dict(
        zip(known["conversation_id"].to_pylist(), known["label"].to_pylist(), strict=True)
    )
    texts = {name: [row.message for row in split.inputs] for name, split in samples.items()}
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    vectorizer.fit(texts["train"])
    features = {
        "TF-IDF": {name: sparse.csr_matrix(vectorizer.transform(texts[name])) for name in SPLITS}
    }
    if embed:
        features["frozen embeddings"] = embeddings(folder / "embeddings.npz", samples)
    ids = {name: split.conversation_ids for name, split in samples.items()}
    return Log(
        features,
        {name: np.asarray(texts[name], dtype=object) for name in SPLITS},
        {name: np.asarray([label_of[i] == 0 for i in ids[name]]) for name in SPLITS},
        {name: np.asarray([user_of[i] for i in ids[name]]) for name in SPLITS},
        {name: np.asarray([len(text) for text in texts[name]]) for name in SPLITS},
    )


def embeddings(cache: Path, samples: dict[str, Samples]) -> dict[str, np.ndarray]:
    """Mean-pooled vectors of the default encoder, scaled to unit variance."""
    if not cache.is_file():
        import torch

        from turnout.routing.encoding import InputEncoder
        from turnout.training.batches import batch_rows, padded
        from turnout.training.encoder import load_base

        base = load_base(None, 0)
        reader = InputEncoder(base.tokenizer, 64)
        vectors_of = {}
        for name, split in samples.items():
            tokens = [reader.encode(row) for row in split.inputs]
            vectors = np.zeros((len(tokens), 384), np.float32)
            for rows in batch_rows(np.asarray([len(row_tokens.ids) for row_tokens in tokens]), 64):
                batch = padded([tokens[row] for row in rows], 0, reader.max_tokens)
                with torch.inference_mode():
                    hidden = base.model.base_model(
                        batch.input_ids, batch.attention_mask, batch.token_type_ids
                    ).last_hidden_state
                mask = batch.attention_mask[..., None]
                vectors[rows] = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
            vectors_of[name] = vectors
        np.savez(cache, **vectors_of)
    stored = np.load(cache)
    mean, scale = stored["train"].mean(0), stored["train"].std(0) * np.sqrt(384)
    scale[scale == 0] = 1.0
    return {name: (stored[name] - mean) / scale for name in SPLITS}


def interval(by_log: np.ndarray) -> str:
    """Mean over logs and its 95 % interval."""
    half = student.ppf(0.975, len(by_log) - 1) * by_log.std(ddof=1) / np.sqrt(len(by_log))
    return f"{by_log.mean():.3f} ({by_log.mean() - half:.3f} to {by_log.mean() + half:.3f})"


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[21, 22, 23, 24])
    parser.add_argument("--conversations", type=int, default=12_000)
    parser.add_argument("--no-embeddings", action="store_true")
    parser.add_argument("--rows-only", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[list] = []
    logs: dict[int, Log] = {}
    for seed in arguments.seeds:
        logs[seed] = log = read_log(
            arguments.out / f"log-{seed}",
            seed,
            arguments.conversations,
            embed=not arguments.no_embeddings,
        )
        for features in log.features if not arguments.rows_only else ():
            for kind in NOISE_SHARE:
                for draw in range(DRAWS):
                    for name, value in measure(log, kind, features, 100 * seed + draw).items():
                        rows.append([seed, features, kind, draw, name, value])
        print(f"log {seed}: done", flush=True)
        (arguments.out / "label_noise.json").write_text(json.dumps(rows))
    if rows:
        show(rows)
    show_rows(by_rows(logs))


def show_rows(table: list[list]) -> None:
    """AUROC, and the share kept of what as many true labels give, by rows learnt from."""
    print("\nTF-IDF, plain, by rows\n\n| flips | rows | AUROC | share kept |\n|---|---|---|---|")
    for kind in ("none", *NOISE_SHARE):
        for rows in dict.fromkeys(row[2] for row in table):
            here, clean = (
                np.asarray([row[3] for row in table if row[1] == k and row[2] == rows])
                for k in (kind, "none")
            )
            print(
                f"| {kind} | {rows} | {interval(here)} | {interval((here - 0.5) / (clean - 0.5))} |"
            )


def show(rows: list[list]) -> None:
    """One table for each kind of features and of noise."""
    seeds = sorted({row[0] for row in rows})
    for features in dict.fromkeys(row[1] for row in rows):
        for kind in NOISE_SHARE:
            here = [row for row in rows if row[1:3] == [features, kind]]
            print(f"\n{features}, {NOISE_SHARE[kind]:.0%} flips, {kind}\n")
            print("| method | share kept | against plain |\n|---|---|---|")

            mean = {
                name: np.asarray(
                    [np.mean([r[5] for r in here if r[4] == name and r[0] == s]) for s in seeds]
                )
                for name in dict.fromkeys(row[4] for row in here)
            }
            for name, by_log in mean.items():
                lead = "" if name == "clean AUROC" else interval(by_log - mean["plain"])
                print(f"| {name} | {interval(by_log)} | {lead} |")


if __name__ == "__main__":
    main()
