"""The rows and the description of a data set, in memory."""

from __future__ import annotations

import contextlib
import gc
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd, inf
from numbers import Integral, Real
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from turnout.catalog import Catalog
from turnout.dataset import description as describe
from turnout.dataset.candidates import Candidate
from turnout.dataset.cells import SPLITS, Ratio, shared_out
from turnout.dataset.drawing import NOT_FIRST, Log
from turnout.dataset.duplicates import deduplicated, near_groups
from turnout.dataset.groups import assigned, components_of, leaks
from turnout.dataset.outcomes import STATED, Outcomes, from_outcomes
from turnout.dataset.selection import BEYOND_SIZE, COMPARE, DRAW, SPLIT, DatasetSpec, select_rows
from turnout.dataset.traffic import TrafficSample
from turnout.engine import DUCKDB, MEMORY_MB, connect, reading
from turnout.errors import RecordError, SettingsError
from turnout.progress import Steps, silent
from turnout.records import ID2LABEL, Architecture
from turnout.routing import Formatter
from turnout.samples import FORMAT_VERSION
from turnout.schema import SAMPLES
from turnout.turns import read_turns

DEFAULT_SIZE = 100_000
DEFAULT_SPLIT = (80, 10, 10)
COUNT, SAMPLE = "count the log", "sample the log as it is"

# What to do where one label is missing.
_BOTH_IN_A_LOG = (
    "Use a log where both model classes were used, or say which models reason under [catalog] in "
    "turnout.toml. A log of one class gets labels from a judge (turnout judge), from measured "
    "answers (--outcomes) or from people (turnout label --human, in Python label=)."
)
_BOTH_IN_LABELS = "Use rows of both labels: the table's own labels count, not the scores."
_UNNAMED = (
    "Use rows of more of them, or name conversations in a column: without one, rows with the same "
    "first message are one conversation."
)
_BOTH_IN_SPLITS = "Put rows of both labels into each split."
_BOTH_IN_OUTCOMES = (
    "Use prompts of which some gain from reasoning and a fast model does others as well, or "
    "another margin."
)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set in memory.

    Attributes:
        tables: Split → rows of `schema.SAMPLES`.
        description: What `dataset.json` says.
        places: Split → for each row its 0-based row in the measured table, the first of its
            duplicates. Empty where turns were read.
        traffic: Rows of `schema.TRAFFIC`: a sample of the log as it is; None where none was read.
    """

    tables: dict[str, pa.Table]
    description: dict[str, Any]
    places: dict[str, list[int]]
    traffic: pa.Table | None = None


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Turn the garbage collector off: it would scan millions of values again and again."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def dataset_spec(
    size: int,
    ratio: Ratio,
    split: tuple[float, float, float],
    *,
    seed: int = 0,
    fixed_split: Mapping[tuple[str, int], str] | None = None,
) -> DatasetSpec:
    """A checked specification; see `build_from_turns`.

    Raises:
        SettingsError: If size, ratio or split make no sense.
    """
    return DatasetSpec(size, _reduced(ratio, size), split_shares(split), seed, fixed_split)


@uncollected()
def dataset_from_turns(
    turns: Path,
    spec: DatasetSpec,
    *,
    architecture: Architecture,
    catalog: Catalog,
    labels: Path | None = None,
    engine: str = DUCKDB,
    steps: Steps | None = None,
) -> Dataset:
    """The data set that `build_from_turns` writes.

    The log stays on the engine. Only the rows drawn from it, about as many as the data set wants,
    are held in memory, formatted and compared.
    """
    steps = steps or Steps(silent, COUNT, DRAW, COMPARE, SPLIT, SAMPLE)
    formatter = Formatter(architecture)
    backend = connect(engine, memory_mb=MEMORY_MB, joined_as_written=True)
    with reading(turns, backend):
        with steps.step(COUNT):
            log = Log(backend, turns, labels, formatter, catalog, spec.seed)
            if architecture == "conversation":
                formatter = replace(formatter, answers_known=_answers_known(turns))
            sample = TrafficSample(
                backend, read_turns(backend, turns), formatter, spec.seed, log.conversations
            )
        selection = select_rows(log, formatter, spec, steps, sample)
        with steps.step(SAMPLE):
            traffic = sample.table(
                {
                    name: {row.values["conversation_id"] for row in rows}
                    for name, rows in selection.splits.items()
                }
            )
    _require_labels(
        turns,
        selection.usable,
        selection.splits,
        selection.dropped,
        _BOTH_IN_A_LOG,
        None if spec.fixed_split is None else _BOTH_IN_SPLITS,
    )
    details = {
        "source": "labels" if labels else "turns",
        "size": spec.size,
        "ratio": list(spec.ratio),
        "seed": spec.seed,
        "turns": log.total,
        "users_apart": selection.users_apart,
        "account": describe.account(selection, spec),
        "quotas": describe.quotas(selection),
        "weighting": describe.weighting(selection),
        "priors": describe.priors(selection.splits["train"], log.prior),
    }
    dataset = _dataset(formatter, selection.splits, selection.dropped, details)
    return replace(dataset, traffic=traffic)


@uncollected()
def dataset_from_outcomes(
    outcomes: Outcomes,
    *,
    architecture: Architecture = "session",
    margin: float = 0.1,
    size: int | None = None,
    split: tuple[float, float, float] = DEFAULT_SPLIT,
    fixed_split: Sequence[str] | None = None,
    seed: int = 0,
    steps: Steps | None = None,
) -> Dataset:
    """The data set of measured rows in memory.

    Args:
        outcomes: The rows.
        architecture: As in `build_from_outcomes`, like the next three.
        margin: See there.
        size: See there.
        split: See there.
        fixed_split: In place of `split`: the split of every row. Then only exact duplicates inside
            a split become one row.
        seed: As in `build_from_outcomes`.
        steps: Reports `COMPARE`.

    Raises:
        RecordError: If a row cannot be read, or both labels are not in every split.
        SettingsError: If the margin or the split is out of range.
    """
    if not isinstance(margin, Real) or not 0 < margin <= 1:
        raise SettingsError(f"margin: found {margin!r}; expected more than 0 and at most 1.")
    steps = steps or Steps(silent, COMPARE)
    formatter = Formatter(architecture)
    dropped: Counter[str] = Counter()
    candidates = from_outcomes(outcomes, formatter, margin, seed, dropped)
    # Duplicates whose mean gap reaches the margin are labelled reasoning.
    cutoff = (1 + margin) / 2
    with steps.step(COMPARE):
        if fixed_split is not None:
            pools: dict[str, list[Candidate]] = {name: [] for name in SPLITS}
            for candidate in candidates:
                pools[fixed_split[candidate.values["place"]]].append(candidate)
            splits = {
                name: deduplicated(pool, dropped, cutoff=cutoff).rows
                for name, pool in pools.items()
            }
        else:
            rows, alike = deduplicated(candidates, dropped, cutoff=cutoff)
            alike += near_groups(rows)
            if size is not None and len(rows) > size:
                dropped[BEYOND_SIZE] = len(rows) - size
                rows = rows[:size]
            splits = _split(rows, alike, split_shares(split), seed)
    rows = [row for split_rows in splits.values() for row in split_rows]
    advice = _BOTH_IN_LABELS if "label" in outcomes.columns else _BOTH_IN_OUTCOMES
    split_advice = None if fixed_split is None else _BOTH_IN_SPLITS
    if split_advice is None and "conversation_id" not in outcomes.columns:
        split_advice = _enough_for_splits(rows, _UNNAMED)
    _require_labels(outcomes.table.path, rows, splits, dropped, advice, split_advice)
    details = {
        "source": "outcomes",
        "size": size,
        "seed": seed,
        "stated_targets": sum(STATED in row.values["evidence"] for row in rows),
        "priors": describe.priors(splits["train"], None),
    }
    return _dataset(formatter, splits, dropped, details)


def _answers_known(turns: Path) -> bool:
    """Whether at least half of the log's turns have an answer, by the file's own counts."""
    metadata = pq.read_metadata(turns)
    missing = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        columns = [group.column(place) for place in range(group.num_columns)]
        answers = [c for c in columns if c.path_in_schema == "assistant_message"]
        counts = answers[0].statistics if answers else None
        if not answers:
            missing += group.num_rows
        elif counts is not None and counts.has_null_count:
            missing += counts.null_count
    return bool(2 * missing <= metadata.num_rows)


def _reduced(ratio: Ratio, size: int) -> Ratio:
    """The ratio in smallest whole numbers."""
    parts = ratio if isinstance(ratio, Sequence) else ()
    are_whole = all(isinstance(number, Integral) for number in (size, *parts))
    if len(parts) != 2 or not are_whole or min(parts) <= 0 or size < sum(parts) / max(parts):
        raise SettingsError(
            f"found size {size!r} and ratio {_shown(ratio)}; expected a whole size of at least 2 "
            "and two whole parts above zero, such as 50:50."
        )
    divisor = gcd(*ratio)
    return ratio[0] // divisor, ratio[1] // divisor


def split_shares(split: Sequence[float]) -> list[float]:
    """The parts of training, validation and test as shares that sum to 1.

    Raises:
        SettingsError: If they are not three parts above zero.
    """
    parts = split if isinstance(split, Sequence) else ()
    are_shares = all(isinstance(part, Real) and 0 < part < inf for part in parts)
    if len(parts) != len(SPLITS) or not are_shares:
        raise SettingsError(
            f"found a split of {_shown(split)}; expected three parts above zero for training, "
            "validation and test, such as 80:10:10."
        )
    return [part / sum(parts) for part in parts]


def _shown(parts: object) -> str:
    """Parts as a command line has them, 80:10:10; anything else as Python writes it."""
    return ":".join(map(str, parts)) if isinstance(parts, list | tuple) else repr(parts)


def _split(
    rows: Sequence[Candidate], alike: Sequence[tuple[str, str]], shares: Sequence[float], seed: int
) -> dict[str, list[Candidate]]:
    plan = shared_out(Counter(row.cell for row in rows), shares)
    components = components_of(rows, alike, "cv_group")
    return assigned(components, plan, shares, seed, both_labels=True)


def _require_labels(
    source: Path,
    usable: Sequence[Candidate],
    splits: Mapping[str, Sequence[Candidate]],
    dropped: Counter[str],
    advice: str,
    split_advice: str | None = None,
) -> None:
    """Refuse rows, or a split, without one of the labels.

    Args:
        source: Where the rows come from.
        usable: The rows.
        splits: Those of each split.
        dropped: Reason → rows left out.
        advice: What to do where all rows lack a label.
        split_advice: What to do where a split does; by default what the rows' groups say.

    Raises:
        RecordError: If a label is missing.
    """
    counts = Counter(c.values["label"] for c in usable)
    labels = ", ".join(f"{counts[label]:,} {name}" for label, name in ID2LABEL.items())
    if any(counts[label] == 0 for label in ID2LABEL):
        if not usable and set(+dropped) == {NOT_FIRST}:
            raise RecordError(
                f"{source}: none of {dropped[NOT_FIRST]:,} turns is the first of its conversation; "
                "expected first turns, which a session router decides on. Ingest a log whose "
                "conversations were captured from their start, or take architecture conversation."
            )
        reasons = "".join(f"; left out: {n:,} {why}" for why, n in dropped.most_common(3) if n)
        raise RecordError(
            f"{source}: {labels} among {len(usable):,} usable rows{reasons}; expected both "
            f"labels. {advice}"
        )
    lacking = [
        f"{name} without {ID2LABEL[label]}"
        for name, rows in splits.items()
        for label in ID2LABEL
        if all(row.values["label"] != label for row in rows)
    ]
    if lacking:
        raise RecordError(
            f"{source}: {labels} among {len(usable):,} usable rows leave {', '.join(lacking)}; "
            f"expected both labels in all three splits. "
            f"{split_advice or _enough_for_splits(usable)}"
        )


def _enough_for_splits(
    rows: Sequence[Candidate], of_conversations: str = "Use rows of more of them."
) -> str:
    """What to do where too few groups of rows that stay together are there for three splits."""
    kinds = {
        "conversation_id": ("conversation", "conversations", of_conversations),
        "cv_group": (
            "value of cv_group",
            "values of cv_group",
            "Use rows of more of them, or rename the column.",
        ),
    }
    parts = {"They": rows} | {
        f"Rows with {name}": [row for row in rows if row.values["label"] == label]
        for label, name in ID2LABEL.items()
    }
    for column, (singular, plural, advice) in kinds.items():
        for who, part in parts.items():
            values = {row.values[column] for row in part}
            if None not in values and 0 < len(values) < len(SPLITS):
                groups = f"one {singular}" if len(values) == 1 else f"{len(values)} {plural}"
                return f"{who} have {groups}, and each stays in one split. {advice}"
    return "Use more rows, or a split with larger parts for validation and test."


def _dataset(
    formatter: Formatter,
    splits: Mapping[str, list[Candidate]],
    dropped: Counter[str],
    details: Mapping[str, Any],
) -> Dataset:
    description = {
        "format_version": FORMAT_VERSION,
        "architecture": formatter.architecture,
        "formatter": formatter.to_json(),
        "labels": {str(label): name for label, name in ID2LABEL.items()},
        **details,
        "rows": sum(map(len, splits.values())),
        "composition": describe.composition(splits),
        "usage": describe.usage(sum(map(len, splits.values())), dropped),
        "dropped": {reason: n for reason, n in sorted(dropped.items()) if n},
        "both_labels": describe.count_both_labels(splits),
        "leaks": leaks(splits),
    }
    places = {
        name: [row.values["place"] for row in rows if "place" in row.values]
        for name, rows in splits.items()
    }
    return Dataset({name: _table(rows) for name, rows in splits.items()}, description, places)


def _table(rows: Sequence[Candidate]) -> pa.Table:
    """The rows as `schema.SAMPLES`, column by column, which takes half the time of row by row."""
    columns = zip(*map(itemgetter(*SAMPLES.names), (c.values for c in rows)), strict=True)
    arrays = [pa.array(column, f.type) for column, f in zip(columns, SAMPLES, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SAMPLES)
