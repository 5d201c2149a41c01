"""From how many labelled turns on an encoder is better; results in docs/results/few-labels.md.

Usage: python benchmarks/learning_curve.py TABLE.parquet|simulated [--rows N …] [--models M …]
       [--plot CURVE.svg]

TABLE is as `grouped_cv.py` says; `simulated` makes a log of 4,000 conversations, its turns with the
labels that the simulator knows, as a person would give them. A fifth of groups is held out, at
most 1,000 of their turns. Of the others N labelled turns are drawn, whole conversations, and every
model is trained on the same ones:

- the encoder and the linear model on words, each alone, of which `turnout train` takes the better;
- TF-IDF with context, turn index and lengths, as in `grouped_cv.py`.

Prints AUROC on the held-out turns with 95 % intervals over groups, and the first's paired lead.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from grouped_cv import Floats, Rows, Turns, router_scores, shown, tfidf_with_context, trained

from turnout.pages.drawing import ACCENT, SECOND, THIRD, file_and_inline
from turnout.pages.drawing import drawn as figure_of
from turnout.records import LABEL_REASONING
from turnout.simulation import simulate
from turnout.stats.bootstrap import Estimate, Resampling
from turnout.stats.metrics import auroc
from turnout.tables import read_known_labels
from turnout.training import Recipe

FOLDS = 5
CONVERSATIONS = 4_000
MAX_TEST_ROWS = 1_000


def main() -> None:
    """Print a row for every number of labelled turns."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", help="a table of measured turns, or the word simulated")
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 300, 1000, 3000, 5000])
    parser.add_argument("--models", nargs="+", default=["encoder", "words"])
    parser.add_argument("--plot", type=Path, help="where to draw the curves, as SVG")
    parser.add_argument("--by", default="cv_group")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = Path(arguments.source)
        if arguments.source == "simulated":
            table = simulated(Path(folder), arguments.seed)
        turns = Turns.read(table, arguments.by)
    test = turns.folds(FOLDS, arguments.seed)[0]
    known = np.setdiff1d(np.flatnonzero(turns.labelled), test)
    test = test[turns.labelled[test]][:MAX_TEST_ROWS]
    print(f"| labelled turns | {' | '.join(arguments.models)} | TF-IDF | the first over TF-IDF |")
    print("|---" * (3 + len(arguments.models)) + "|", flush=True)
    points = {}
    for count in arguments.rows:
        if count <= len(known):
            few = drawn(turns, known, count, arguments.seed)
            recipes = [Recipe(seed=arguments.seed, model=m) for m in arguments.models]
            points[count] = print_row(turns, few, test, recipes)
        else:
            print(f"| {count:,} | only {len(known):,} are there |", file=sys.stderr)
    if arguments.plot:
        arguments.plot.write_text(curves([*arguments.models, "TF-IDF"], points), encoding="utf-8")


def print_row(
    turns: Turns, known: Rows, test: Rows, recipes: Sequence[Recipe]
) -> Sequence[Estimate]:
    """Train on `known`, judge on `held`; AUROC of every model, TF-IDF last."""
    scores = [routed(turns, known, test, recipe) for recipe in recipes]
    scores.append(tfidf_with_context(turns, known, test))
    resampling = Resampling(turns.groups[test].tolist())

    def measured(weights: Floats) -> Floats:
        aurocs = [auroc(each, turns.needs[test], weights) for each in scores]
        return np.column_stack([*aurocs, aurocs[0] - aurocs[-1]])

    *each, lead = resampling.estimates(measured)
    cells = [*map(shown, each), shown(lead, "+.3f")]
    print(f"| {len(known):,} | {' | '.join(cells)} |", flush=True)
    return each


def curves(names: Sequence[str], points: Mapping[int, Sequence[Estimate]]) -> str:
    """AUROC of every model by labelled turns, with its interval, as SVG."""
    with figure_of(6.4, 3.6) as (figure, axes):
        for place, (name, colour) in enumerate(zip(names, (ACCENT, SECOND, THIRD), strict=False)):
            each = [estimates[place] for estimates in points.values()]
            # Beside one another, so that intervals do not hide each other.
            shift = 1 + 0.06 * (place - (len(names) - 1) / 2)
            axes.errorbar(
                [shift * rows for rows in points],
                [estimate.value for estimate in each],
                [[e.value - e.low for e in each], [e.high - e.value for e in each]],
                color=colour, marker="o", markersize=4, capsize=2, label=name,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks(list(points), [f"{rows:,}" for rows in points])
        axes.minorticks_off()
        axes.set_xlabel("labelled turns")
        axes.set_ylabel("AUROC")
        axes.legend(loc="lower right")
        return file_and_inline(figure, "few-labels", "AUROC by labelled turns")[0]


def routed(turns: Turns, known: Rows, test: Rows, recipe: Recipe) -> Floats:
    """Scores of the held turns by a router of the known ones."""
    with tempfile.TemporaryDirectory() as folder:
        router = trained(turns, known, Path(folder), recipe)
        return router_scores(router, turns, test)["router"]


def drawn(turns: Turns, known: Rows, count: int, seed: int) -> Rows:
    """So many of the known turns, conversation by conversation in random order."""
    conversations = [turns.rows[row]["conversation_id"] for row in known]
    names, of = np.unique(conversations, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))[of]
    return np.sort(known[np.argsort(order, kind="stable")[:count]])


def simulated(folder: Path, seed: int, conversations: int = CONVERSATIONS) -> Path:
    """A table of the turns of a simulated log, with what each needs by the simulator's truth."""
    simulate(folder / "log", n_conversations=conversations, seed=seed)
    truth = read_known_labels(folder / "log" / "truth.parquet")
    names = ["conversation_id", "turn_index", "user_message", "assistant_message"]
    log = pq.read_table(folder / "log" / "turns.parquet", columns=names)
    by_turn = log.sort_by([(name, "ascending") for name in names[:2]]).to_pylist()
    rows = []
    for conversation, group in groupby(by_turn, key=itemgetter("conversation_id")):
        messages: list[dict[str, str]] = []
        for _, calls in groupby(group, key=itemgetter("turn_index")):
            turn = next(calls)  # a log may hold a turn more than once
            messages.append({"role": "user", "content": turn["user_message"]})
            label = truth[conversation, turn["turn_index"]]
            rows.append(
                {
                    "conversation_id": conversation,
                    "turn_index": turn["turn_index"],
                    "messages": list(messages),
                    "label": label,
                    "reasoning_score": 1.0,
                    "fast_score": float(label != LABEL_REASONING),
                    "cv_group": conversation,
                }
            )
            answer = turn["assistant_message"] or "-"
            messages.append({"role": "assistant", "content": answer})
    pq.write_table(pa.Table.from_pylist(rows), folder / "simulated.parquet")
    return folder / "simulated.parquet"


if __name__ == "__main__":
    main()
