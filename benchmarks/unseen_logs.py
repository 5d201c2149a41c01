"""The default path on logs that chose nothing; results in docs/results/few-labels.md.

Usage: python benchmarks/unseen_logs.py [--data FOLDER] [--sets NAME …] [--labels N …]
       [--drawings R] [--model M] [--development]

Sets are logs of `generated_logs.py` and of the simulator, and, from FOLDER, chats whose need is the
ability that they test (`multi_turn/turns.parquet`) and the models that developers chose
(`dev_chat_logs/turns.parquet`). Of each set half of the groups, at most 1,500 turns, are held out
and judged by the true labels. Of the others N turns are drawn, whole conversations, and labelled,
10 % of the labels wrongly in generated sets. A user's path follows, all with defaults: `turnout
ingest` of their conversations, `label --human`, `build`, `train`. TF-IDF with context, turn index
and lengths is fitted on all N labels, and on those alone that the router was fitted on: `build`
sets some apart for testing. With --development, the generated and simulated logs are those that
choices were made on.

Prints AUROC, the mean over R drawings of the labelled turns, and the router's lead, with 95 %
intervals that resample groups of held-out turns.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from generated_logs import Log, turns_of
from grouped_cv import (
    LAST_MESSAGE,
    ROUTER,
    Floats,
    Rows,
    Turns,
    router_scores,
    shown,
    tfidf_with_context,
)  # fmt: skip
from learning_curve import drawn, simulated
from numpy.typing import NDArray

from turnout.catalog import load_catalog
from turnout.dataset import build_from_turns
from turnout.errors import TurnoutError
from turnout.labels import ExternalFiles, label_turns
from turnout.logs import ingest
from turnout.records import LABEL_FAST, LABEL_REASONING
from turnout.stats.bootstrap import Resampling
from turnout.stats.metrics import auroc
from turnout.training import Recipe, train

TFIDF, TFIDF_SAME = "TF-IDF", "TF-IDF, the router's rows"
METHODS = (ROUTER, LAST_MESSAGE, TFIDF, TFIDF_SAME)
CONVERSATIONS = 1_200
MAX_TEST_TURNS = 1_500
WRONG_LABELS = 0.1
FAST_MODEL = "gpt-4o"
# Abilities of MT-Bench-101 that need steps of thought.
REASONING_ABILITIES = {"MR", "GR"}
DEVELOPMENT = {
    "context and message": Log(stakes=0.8, share=0.2, turns=(2, 9)),
    "context alone": Log(message=0.0, share=0.45, follow_ups=0.5),
    "message alone": Log(stakes=0.0, share=0.3, follow_ups=0.0, turns=(2, 6)),
    "3 % need": Log(share=0.03, turns=(2, 7)),
    "40 % need": Log(share=0.4, follow_ups=0.2),
    "long conversations": Log(share=0.3, turns=(40, 60)),
    "German, Russian and Japanese": Log(share=0.3, languages=("ja", "ru", "de")),
}


FRESH = {
    "context and message": Log(message=1.2, stakes=0.7, share=0.35, turns=(4, 12), follow_ups=0.4),
    "context alone": Log(message=0.0, share=0.4, turns=(2, 15), follow_ups=0.35),
    "message alone": Log(stakes=0.0, share=0.2, turns=(3, 10), follow_ups=0.15),
    "5 % need": Log(share=0.05, turns=(2, 10)),
    "half need": Log(share=0.5, turns=(2, 7), follow_ups=0.1),
    "long conversations": Log(share=0.25, turns=(25, 45)),
    "German, Russian and Japanese": Log(
        share=0.2, languages=("ru", "ja", "de"), turns=(2, 9), follow_ups=0.45
    ),
}
# Of the first log; the others follow on.
DEVELOPMENT_SEED, FRESH_SEED = 900, 1_900
SIMULATED_SEEDS = {True: (11, 41), False: (1_951, 1_952)}


@dataclass(frozen=True)
class Set:
    """Turns, and how many of the labels that people give are wrong."""

    turns: Turns
    wrong_labels: float


def main() -> None:
    """Print a row for every set and number of labels."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sets", nargs="+")
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--drawings", type=int, default=2)
    parser.add_argument("--model", default="words", choices=("auto", "encoder", "words"))
    parser.add_argument("--development", action="store_true")
    arguments = parser.parse_args()
    leads = " | ".join(f"ahead of {name}" for name in METHODS[1:])
    print(f"| set | labels | {' | '.join(METHODS)} | {leads} |")
    print("|---" * (1 + 2 * len(METHODS)) + "|", flush=True)
    for count in arguments.labels:
        for name, made in sets(arguments.data, arguments.development).items():
            if arguments.sets is None or name in arguments.sets:
                print_row(name, made(), count, arguments.drawings, arguments.model)


def sets(data: Path | None, development: bool) -> dict[str, Callable[[], Set]]:
    """Name → how to make it."""
    logs, first = (DEVELOPMENT, DEVELOPMENT_SEED) if development else (FRESH, FRESH_SEED)
    by_name: dict[str, Callable[[], Set]] = {
        name: partial(_generated, log, seed) for seed, (name, log) in enumerate(logs.items(), first)
    }
    for seed in SIMULATED_SEEDS[development]:
        by_name[f"simulated, seed {seed}"] = partial(_simulated, seed)
    if data:
        by_name["abilities"] = partial(_abilities, data / "multi_turn" / "turns.parquet")
        by_name["choices"] = partial(_choices, data / "dev_chat_logs" / "turns.parquet")
    return by_name


def print_row(name: str, chosen: Set, count: int, drawings: int, model: str) -> None:
    """Train on each drawing of `count` labels, judge on the held-out turns."""
    turns = chosen.turns
    test, known = turns.folds(2, 0)
    known = known[turns.labelled[known]]
    if count > len(known):
        return
    test = test[turns.labelled[test]]
    test = np.sort(np.random.default_rng(0).permutation(test)[:MAX_TEST_TURNS])
    scores: dict[str, list[Floats]] = defaultdict(list)
    for seed in range(drawings):
        few = drawn(turns, known, count, seed)
        given = _given(chosen, few, seed)
        try:
            with tempfile.TemporaryDirectory() as folder:
                router = user_router(turns, few, given, Path(folder), model)
                fitted = few[_fitted(turns, few, Path(folder))]
                for method, values in router_scores(router, turns, test).items():
                    scores[method].append(values)
        except TurnoutError as error:  # that a set is too small for a router is a result too
            print(f"| {name} | {count:,} | drawing {seed}: {error} |", flush=True)
            continue
        labels = turns.needs.copy()
        labels[few] = given == LABEL_REASONING
        noisy = Turns(turns.rows, turns.turns, turns.groups, labels, turns.labelled, turns.gaps)
        for method, rows in ((TFIDF, few), (TFIDF_SAME, fitted)):
            scores[method].append(tfidf_with_context(noisy, rows, test))
    if not scores:
        return
    resampling, needs = Resampling(turns.groups[test].tolist()), turns.needs[test]

    def measured(weights: Floats) -> Floats:
        each = [
            np.mean([auroc(values, needs, weights) for values in scores[method]], axis=0)
            for method in METHODS
        ]
        return np.column_stack([*each, *(each[0] - other for other in each[1:])])

    estimates = resampling.estimates(measured)
    values, leads = estimates[: len(METHODS)], estimates[len(METHODS) :]
    cells = [*map(shown, values), *(shown(lead, "+.3f") for lead in leads)]
    print(f"| {name} | {count:,} | {' | '.join(cells)} |", flush=True)


def user_router(turns: Turns, known: Rows, given: Rows, folder: Path, model: str) -> Path:
    """A router of the conversations with labelled turns, by the verbs of a user."""
    log, human, table, labels, dataset, router = (
        folder / name
        for name in ("log.parquet", "human.parquet", "turns.parquet", "labels.parquet", "d", "r")
    )
    pq.write_table(pa.Table.from_pylist(_log(turns, known)), log)
    pq.write_table(
        pa.table(
            {
                "conversation_id": [turns.rows[row]["conversation_id"] for row in known],
                "turn_index": [turns.rows[row]["turn_index"] for row in known],
                "label": given,
                "annotator": ["a"] * len(known),
            }
        ),
        human,
    )
    catalog = load_catalog()
    ingest([log], table)
    label_turns(table, labels, catalog, external=ExternalFiles(human=human))
    report = build_from_turns(
        table, dataset, architecture="conversation", catalog=catalog, labels=labels
    )
    trained = train(dataset, router, recipe=Recipe(model=model))
    rows = report.description["rows"]
    print(f"{rows} rows, {trained.rows}; {trained.model} serves", file=sys.stderr)
    return router


def _fitted(turns: Turns, known: Rows, folder: Path) -> NDArray[np.bool_]:
    """Which of the known turns the router in `folder` was fitted on."""
    names = ["conversation_id", "turn_index"]
    tables = [pq.read_table(folder / "d" / f"{part}.parquet") for part in ("train", "validation")]
    rows = pa.concat_tables(table.select(names) for table in tables).to_pylist()
    keys = {tuple(row.values()) for row in rows}
    return np.asarray([tuple(turns.rows[row][name] for name in names) in keys for row in known])


def _log(turns: Turns, known: Rows) -> list[dict[str, Any]]:
    """All turns of the conversations of `known`, one row a turn."""
    names = {turns.rows[row]["conversation_id"] for row in known}
    latest = {
        row["conversation_id"]: (row, turns.turns[place])
        for place, row in sorted(enumerate(turns.rows), key=lambda each: each[1]["turn_index"])
        if row["conversation_id"] in names
    }
    return [
        {
            "conversation_id": name,
            "turn_index": index,
            "user_message": turn.user_message,
            "assistant_message": turn.assistant_message,
            "model": FAST_MODEL,
        }
        for name, (_, conversation) in latest.items()
        for index, turn in enumerate(conversation, 1)
    ]


def _given(chosen: Set, rows: Rows, seed: int) -> Rows:
    """The labels that people give."""
    right = np.where(chosen.turns.needs[rows], LABEL_REASONING, LABEL_FAST)
    wrong = np.random.default_rng(seed).random(len(rows)) < chosen.wrong_labels
    return np.asarray(np.where(wrong, 1 - right, right), np.int64)


def _generated(log: Log, seed: int) -> Set:
    conversations = CONVERSATIONS if log.turns[1] < 20 else CONVERSATIONS // 15
    return Set(_turns(turns_of(log, conversations, seed)), WRONG_LABELS)


def _simulated(seed: int) -> Set:
    with tempfile.TemporaryDirectory() as folder:
        return Set(Turns.read(simulated(Path(folder), seed), "cv_group"), WRONG_LABELS)


def _abilities(table: Path) -> Set:
    rows = [row for row in pq.read_table(table).to_pylist() if row["set"] == "mt_bench_101"]
    return Set(_turns(_with_messages(rows, _needs_ability)), 0.0)


def _choices(table: Path) -> Set:
    catalog = load_catalog()

    def label(row: dict[str, Any]) -> int | None:
        known = catalog.lookup(row["model"])
        return None if known is None else int(known.model_class != "reasoning")

    return Set(_turns(_with_messages(pq.read_table(table).to_pylist(), label)), 0.0)


def _needs_ability(row: dict[str, Any]) -> int:
    return LABEL_REASONING if row["category"] in REASONING_ABILITIES else LABEL_FAST


def _with_messages(
    rows: Sequence[dict[str, Any]], label: Callable[[dict[str, Any]], int | None]
) -> list[dict[str, Any]]:
    """Rows of a log with the conversation up to each; those without words are left out."""
    of: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row["conversation_id"], row["turn_index"])):
        if (row["user_message"] or "").strip():
            of[row["conversation_id"]].append(row)
    made = []
    for name, conversation in of.items():
        messages: list[dict[str, str]] = []
        for index, row in enumerate(conversation, 1):
            messages.append({"role": "user", "content": row["user_message"]})
            need = label(row)
            made.append(
                {
                    "conversation_id": name,
                    "cv_group": name,
                    "turn_index": index,
                    "messages": list(messages),
                    "label": need,
                    "reasoning_score": 1.0,
                    "fast_score": float(need != LABEL_REASONING),
                }
            )
            messages.append({"role": "assistant", "content": row["assistant_message"] or "-"})
    return made


def _turns(rows: Sequence[dict[str, Any]]) -> Turns:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "turns.parquet"
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
        return Turns.read(path, "cv_group")


if __name__ == "__main__":
    main()
