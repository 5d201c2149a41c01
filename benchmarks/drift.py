"""How often does `turnout drift` raise a false alarm, and what does it find? docs/results/drift.md.

Usage: python benchmarks/drift.py WORK_FOLDER [TRAININGS] [DRAWS]

Simulated logs. TRAININGS routers of each architecture (linear models on words) are trained on logs
of 3,000 conversations, from labels of the log's own evidence. A further log of 8,000 conversations,
of another seed, is scored by each.

1. The test: reference and new traffic are both drawn from the further log, without conversations
   in common, DRAWS times. Nothing has changed, so any verdict but `leave` is a false alarm.
2. The whole line: the reference that training wrote, against conversations drawn from the further
   log. Again nothing has changed.
3. What is found: part of the new conversations are of another kind.

Brackets are Wilson intervals.
"""

from __future__ import annotations

import pydoc_data.topics
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from turnout.catalog import load_catalog
from turnout.dataset import build_from_turns
from turnout.labels import label_turns
from turnout.logs import ingest
from turnout.parquet import write_parquet
from turnout.replay.drift.compare import LEVEL, Comparison, compare
from turnout.replay.drift.new_traffic import MOST_TURNS
from turnout.replay.scored import score_turns
from turnout.routing import RouterFolder
from turnout.routing.encoding import read_tokenizer
from turnout.routing.folder import TOKENIZER_NAME
from turnout.routing.formatter import MAX_MESSAGE_CHARS, shortened
from turnout.routing.message_facts import message_facts
from turnout.routing.reference import Reference, read_reference
from turnout.routing.traffic_rows import TrafficRows
from turnout.simulation import simulate
from turnout.stats.intervals import wilson
from turnout.training import Recipe, train
from turnout.training.reference import reference_of

CATALOG = load_catalog()
REFERENCE_CONVERSATIONS = 1_200
NEW_CONVERSATIONS = (100, 500, 2_000)
FURTHER_CONVERSATIONS = 8_000
CHANGED_SHARE = 0.25
_SPANISH = re.findall(
    r"\w+",
    """por favor revisa el informe de ventas y dime qué falta en la tabla del cliente cuando el
    pedido llega tarde a la oficina porque nadie entiende cómo funciona este programa nuevo que
    compramos hace un mes para nuestra empresa pequeña donde trabajan diez personas sin ayuda""",
)


@dataclass
class Pool:
    """Scored traffic, and which messages truly need reasoning at a conversation's first turn."""

    rows: TrafficRows
    needs: dict[int, bool]

    def drawn(self, conversations: np.ndarray) -> TrafficRows:
        """Some conversations; one that is named twice stands there twice."""
        return _taken(self.rows, conversations)


def _taken(rows: TrafficRows, conversations: np.ndarray) -> TrafficRows:
    order = np.argsort(rows.conversations, kind="stable")
    starts = np.searchsorted(rows.conversations[order], np.arange(rows.conversations.max() + 2))
    lengths = starts[conversations + 1] - starts[conversations]
    places = np.repeat(starts[conversations] - np.r_[0, np.cumsum(lengths)[:-1]], lengths)
    rows_taken = order[places + np.arange(lengths.sum())]
    facts = rows.facts
    return TrafficRows(
        np.repeat(np.arange(len(conversations)), lengths),
        rows.turn_counts[rows_taken],
        rows.scores[rows_taken],
        replace(
            facts,
            chars=facts.chars[rows_taken],
            piece_chars=facts.piece_chars[rows_taken],
            surprise=facts.surprise[rows_taken],
            kind=facts.kind[rows_taken],
            script=[facts.script[a] for a in rows_taken],
        ),
        np.ones(len(rows_taken)),
        rows.prior,
    )


def _joined(first: TrafficRows, second: TrafficRows) -> TrafficRows:
    a, b = first.facts, second.facts
    return TrafficRows(
        np.r_[first.conversations, second.conversations + first.conversations.max() + 1],
        np.r_[first.turn_counts, second.turn_counts],
        np.r_[first.scores, second.scores],
        replace(
            a,
            chars=np.r_[a.chars, b.chars],
            piece_chars=np.r_[a.piece_chars, b.piece_chars],
            surprise=np.r_[a.surprise, b.surprise],
            kind=np.r_[a.kind, b.kind],
            script=a.script + b.script,
        ),
        np.ones(len(first.scores) + len(second.scores)),
        first.prior,
    )


def trained(work: Path, architecture: str, seed: int) -> Path:
    """A router trained on a simulated log of its own."""
    log = work / f"log-{seed}"
    turns, labels = work / f"turns-{seed}.parquet", work / f"labels-{seed}.parquet"
    if not turns.exists():
        simulate(log, n_conversations=3_000, seed=seed)
        ingest([log / "turns.parquet"], turns)
    label_turns(turns, labels, CATALOG)
    data, router = work / f"data-{architecture}-{seed}", work / f"router-{architecture}-{seed}"
    build_from_turns(
        turns, data, architecture=architecture, catalog=CATALOG, labels=labels, size=10_000
    )
    train(data, router, recipe=Recipe(model="words"))
    return router


def further(work: Path, change: str) -> tuple[Path, Path]:
    """The further log, with every message changed, and its truth."""
    log = work / "log-further"
    turns, changed = work / "turns-further.parquet", work / f"turns-{change}.parquet"
    if not turns.exists():
        simulate(log, n_conversations=FURTHER_CONVERSATIONS, seed=990)
        ingest([log / "turns.parquet"], turns)
    if not changed.exists():
        table = pq.read_table(turns)
        texts = CHANGES[change](table["user_message"].to_pylist())
        column = table.schema.get_field_index("user_message")
        write_parquet(table.set_column(column, "user_message", pa.array(texts)), changed)
    return changed, log / "truth.parquet"


def _manual(texts: list[str]) -> list[str]:
    """As many questions about Python's own manual, of about the same lengths."""
    draw = np.random.default_rng(1)
    words = re.findall(r"[\w.]+", " ".join(pydoc_data.topics.topics.values()))
    starts = draw.integers(0, len(words) - 400, len(texts))
    return [
        " ".join(words[start : start + min(len(text.split()), 400)])
        for start, text in zip(starts, texts, strict=True)
    ]


def _spanish(texts: list[str]) -> list[str]:
    draw = np.random.default_rng(2)
    return [" ".join(draw.choice(_SPANISH, min(len(t.split()), 400))) for t in texts]


def _longer(texts: list[str]) -> list[str]:
    """Each message followed by another one."""
    order = np.random.default_rng(3).permutation(len(texts))
    return [f"{text} {texts[position]}" for text, position in zip(texts, order, strict=True)]


CHANGES: dict[str, Callable[[list[str]], list[str]]] = {
    "none": lambda texts: texts,
    "another domain": _manual,
    "another language": _spanish,
    "longer messages": _longer,
}


def pool(work: Path, router: Path, change: str) -> Pool:
    """The further log as a router scores it."""
    turns, truth = further(work, change)
    folder = RouterFolder.read(router)
    scored = work / f"{router.name}-{change.replace(' ', '-')}.parquet"
    score_turns(router, turns, scored, catalog=CATALOG)
    log = pq.read_table(scored, columns=["conversation_id", "turn_index", "p_reasoning"])
    order = [("conversation_id", "ascending"), ("turn_index", "ascending")]
    texts = pq.read_table(turns).sort_by(order)["user_message"].to_pylist()
    ids, scores = log["conversation_id"].to_pylist(), log["p_reasoning"].to_pylist()
    counts = Counter(ids)
    decided = [position for position, score in enumerate(scores) if score is not None]
    reference = read_reference(router)
    tokenizer = read_tokenizer(router / TOKENIZER_NAME)
    messages = [shortened(texts[position], MAX_MESSAGE_CHARS) for position in decided]
    # By name, so that conversations have the same number whatever was changed.
    names, codes = np.unique([ids[position] for position in decided], return_inverse=True)
    hard = {
        row["conversation_id"]: row["label"] == 0
        for row in pq.read_table(truth).to_pylist()
        if row["turn_index"] == 1
    }
    priors = folder.spec.priors
    rows = TrafficRows(
        codes.astype(np.int64),
        np.array([counts[ids[position]] for position in decided], float),
        np.array([scores[position] for position in decided], float),
        message_facts(messages, tokenizer, reference.words),
        np.ones(len(decided)),
        priors.balanced if priors.log is None else priors.log,
    )
    return Pool(rows, {position: hard[name] for position, name in enumerate(names) if name in hard})


def first_to(conversations: np.ndarray, rows: TrafficRows) -> np.ndarray:
    """As many of the conversations as the verb would compare."""
    turns = np.bincount(rows.conversations)[conversations]
    return conversations[np.cumsum(turns) <= MOST_TURNS]


def share(hits: int, n: int) -> str:
    """A share in percent with its interval."""
    low, high = wilson(hits / n, n)
    return f"{100 * hits / n:.1f} ({100 * low:.1f}–{100 * high:.1f})"


def counted(name: str, comparisons: list[Comparison]) -> None:
    """Print one row of the table."""
    n = len(comparisons)
    verdicts = Counter(f.verdict for f in comparisons)
    test = sum(any(q.p_value < LEVEL for q in f.quantities) for f in comparisons)
    alarms = n - verdicts["leave"]
    cells = [share(alarms, n), share(verdicts["recalibrate"], n), share(verdicts["retrain"], n)]
    print(f"| {name} | {n} | {' | '.join(cells)} | {share(test, n)} |", flush=True)


def same_population(
    base: Pool, router: Path, draws: int, size: int, *, alone: bool = False
) -> list[Comparison]:
    """Reference and new traffic of the same log; `alone` takes turns as if independent."""
    draw = np.random.default_rng(size)
    comparisons = []
    for _ in range(draws):
        order = draw.permutation(len(np.unique(base.rows.conversations)))
        reference = _reference(base, router, order[:REFERENCE_CONVERSATIONS], alone=alone)
        new = order[REFERENCE_CONVERSATIONS:][:size]
        rows = base.drawn(first_to(new, base.rows))
        comparisons.append(_against(reference, _each_alone(rows) if alone else rows, router))
    return comparisons


def own_reference(base: Pool, router: Path, draws: int, size: int) -> list[Comparison]:
    """The reference that training wrote, and new traffic of the same kind."""
    draw = np.random.default_rng(size)
    reference, _ = _loaded(router)
    n = len(np.unique(base.rows.conversations))
    taken = [draw.permutation(n)[:size] for _ in range(draws)]
    return [_against(reference, base.drawn(first_to(names, base.rows)), router) for names in taken]


def changed_part(base: Pool, other: Pool, router: Path, draws: int, size: int) -> list[Comparison]:
    """A part of the new conversations is of the other pool."""
    draw = np.random.default_rng(size)
    comparisons = []
    for _ in range(draws):
        order = draw.permutation(len(np.unique(base.rows.conversations)))
        reference = _reference(base, router, order[:REFERENCE_CONVERSATIONS])
        new = first_to(order[REFERENCE_CONVERSATIONS:][:size], base.rows)
        part = round(CHANGED_SHARE * len(new))
        rows = _joined(base.drawn(new[part:]), other.drawn(new[:part]))
        comparisons.append(_against(reference, rows, router))
    return comparisons


def another_need(
    base: Pool, router: Path, draws: int, size: int, wanted: float
) -> list[Comparison]:
    """Conversations drawn so that another share of the first messages truly needs reasoning."""
    draw = np.random.default_rng(size)
    comparisons = []
    for _ in range(draws):
        order = draw.permutation(len(np.unique(base.rows.conversations)))
        reference = _reference(base, router, order[:REFERENCE_CONVERSATIONS])
        rest = order[REFERENCE_CONVERSATIONS:]
        known = np.array([base.needs.get(int(number), False) for number in rest])
        hard, easy = rest[known], rest[~known]
        n_hard = min(round(wanted * size), len(hard))
        new = np.r_[hard[:n_hard], easy[: size - n_hard]]
        comparisons.append(
            _against(reference, base.drawn(first_to(draw.permutation(new), base.rows)), router)
        )
    return comparisons


@lru_cache
def _loaded(router: Path) -> tuple[Reference, float]:
    """The reference that training wrote, and the threshold that stands."""
    reference = read_reference(router)
    return reference, RouterFolder.read(router).spec.threshold_for(reference.population)


def _each_alone(rows: TrafficRows) -> TrafficRows:
    return replace(rows, conversations=np.arange(len(rows.scores)))


def _reference(
    base: Pool, router: Path, conversations: np.ndarray, *, alone: bool = False
) -> Reference:
    stored, threshold = _loaded(router)
    rows = base.drawn(first_to(conversations, base.rows))
    rows = _each_alone(rows) if alone else rows
    return reference_of(rows, stored.words, stored.population, threshold, "traffic")


def _against(reference: Reference, rows: TrafficRows, router: Path) -> Comparison:
    return compare(reference, rows, _loaded(router)[1])


def measure(work: Path, architecture: str, trainings: int, draws: int) -> None:
    """Print the table of an architecture."""
    routers = [trained(work, architecture, seed) for seed in range(1, trainings + 1)]
    base = pool(work, routers[0], "none")
    need = np.mean(list(base.needs.values()))
    print(f"\n## {architecture}; {need:.3f} of the first messages truly need reasoning\n")
    print("| traffic | draws | any alarm, % | recalibrate | retrain | any test, % |")
    print("|---|---|---|---|---|---|")
    _unchanged(work, routers, base, draws, with_alone=architecture == "conversation")
    _changed(work, routers[0], base, draws // 3)


def _unchanged(
    work: Path, routers: list[Path], base: Pool, draws: int, *, with_alone: bool
) -> None:
    for size in NEW_CONVERSATIONS:
        counted(f"unchanged, {size:,} new", same_population(base, routers[0], draws, size))
        if with_alone:
            comparisons = same_population(base, routers[0], draws, size, alone=True)
            counted(f"the same, turns taken as independent, {size:,} new", comparisons)
    for size in NEW_CONVERSATIONS:
        comparisons = []
        for router in routers:
            own = base if router == routers[0] else pool(work, router, "none")
            comparisons += own_reference(own, router, max(1, draws // len(routers)), size)
        counted(f"unchanged, {len(routers)} own references, {size:,} new", comparisons)


def _changed(work: Path, router: Path, base: Pool, draws: int) -> None:
    need = np.mean(list(base.needs.values()))
    for more in (0.1, 0.2):
        for size in NEW_CONVERSATIONS:
            comparisons = another_need(base, router, draws, size, need + more)
            counted(f"need + {more}, {size:,} new", comparisons)
    for change in list(CHANGES)[1:]:
        other = pool(work, router, change)
        for size in NEW_CONVERSATIONS:
            comparisons = changed_part(base, other, router, draws, size)
            counted(f"{change} in {CHANGED_SHARE:.0%}, {size:,} new", comparisons)


if __name__ == "__main__":
    folder, *numbers = sys.argv[1:]
    given = [*map(int, numbers), *(5, 300)[len(numbers) :]]
    Path(folder).mkdir(parents=True, exist_ok=True)
    for each in ("session", "conversation"):
        measure(Path(folder), each, *given)
