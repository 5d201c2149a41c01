"""Which models conversations use, and where they switch.

A switch is a pair of consecutive turns of one conversation on different models. Turns that name
no model are skipped. Models are compared by their canonical names, so two spellings of one
model are no switch.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from turnout.catalog import Catalog
from turnout.chosen_by.fallbacks import FALLBACKS, fallback_signs, with_fallbacks
from turnout.chosen_by.model_switches import KINDS, latest_before, with_switches
from turnout.engine import DUCKDB, MEMORY_MB, batches, connect, materialized, reading
from turnout.errors import RecordError
from turnout.manifest import Manifest
from turnout.parquet import write_parquet, write_parquet_in_order
from turnout.progress import OnProgress, Steps, silent
from turnout.schema import TIMESTAMP, TURN_KEYS, TURNS
from turnout.stage import StageRun, report_json
from turnout.switches.examples import SAMPLED_SWITCHES, examples, sampled, turns_around
from turnout.switches.rates import all_rates
from turnout.switches.report import (
    MODEL_BUCKETS,
    FallbackCount,
    ModelPair,
    SwitchKind,
    SwitchMedians,
    SwitchReport,
)
from turnout.turns import read_turns, refuse_repeats, require_places, with_model_facts

REPORT_NAME, PAGE_NAME = "report.json", "report.html"
_FIND, _COUNT, _RATE, _QUOTE, _WRITE = (
    "find switches", "count models and switches", "rate by turn and time", "quote examples", "write"
)  # fmt: skip
_MEDIANS = ("turns_before", "turns_after", "chars_before", "chars_at", "chars_after")
# The columns that switches are counted by.
_COUNTED_BY = (
    "kind", "from_model", "from_class", "to_model", "to_class", "provider_switch", "fallback_kind",
)  # fmt: skip
_SWITCHES = pa.schema(
    [
        pa.field("conversation_id", pa.string(), nullable=False),
        pa.field("turn_index", TURNS.field("turn_index").type, nullable=False),
        pa.field("timestamp", TIMESTAMP),
        pa.field("from_model", pa.string(), nullable=False),
        pa.field("from_class", pa.string(), nullable=False),
        pa.field("to_model", pa.string(), nullable=False),
        pa.field("to_class", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("provider_switch", pa.bool_(), nullable=False),
        pa.field("fallback", pa.bool_(), nullable=False),
        pa.field("fallback_kind", pa.string()),
        pa.field("turns_before", pa.int64(), nullable=False),  # captured ones
        pa.field("turns_after", pa.int64(), nullable=False),
        pa.field("chars_before", pa.int32()),
        pa.field("chars_at", pa.int32(), nullable=False),
        pa.field("chars_after", pa.int32()),
    ]
)


def report_switches(
    turns: Path,
    catalog: Catalog,
    *,
    out: Path | None = None,
    n_examples: int = 0,
    around: int = 0,
    engine: str = DUCKDB,
    on_progress: OnProgress = silent,
) -> SwitchReport:
    """Count models and switches.

    Args:
        turns: A turns table, as `turnout ingest` writes it.
        catalog: Names to classes.
        out: Where `report.json`, `report.html` and `switches.parquet` (one row a switch) go, if
            anywhere.
        n_examples: Switches of each kind whose messages are quoted, cut; none by default.
        around: With `out`, also write `switch_turns.parquet`: that many turns before and after
            each switch, of at most `SAMPLED_SWITCHES` switches; 0 for none.
        engine: Where the log is read; see `engine.connect`. It changes no byte.
        on_progress: Called at every step.

    Raises:
        RecordError: If the file is not a turns table or names no model at all.
        SettingsError: If the engine is not there.
        StorageError: If `out` cannot be written.
    """
    options = {"catalog": catalog.digest, "examples": n_examples, "around": around}
    run = StageRun(out, Manifest.of("switches", {"turns": turns}, options)) if out else None
    if run and (earlier := run.earlier(SwitchReport, REPORT_NAME)):
        return earlier
    optional = [*([_QUOTE] if n_examples else []), *([_WRITE] if out else [])]
    steps = Steps(on_progress, _FIND, _COUNT, _RATE, *optional)
    backend = connect(engine, memory_mb=MEMORY_MB, joined_as_written=True)
    with reading(turns, backend):
        table = read_turns(backend, turns)
        require_places(turns)
        with steps.step(_FIND):
            # All counts are of these turns: computed once, without the messages.
            named = materialized(backend, _named_turns(table, backend, catalog))
            refuse_repeats(turns, backend.to_pyarrow(named.filter(named.repeats).count()).as_py())
            switched = named.filter(named.kind.notnull())
            switches = materialized(backend, switched.select(*_SWITCHES.names))
        with steps.step(_COUNT):
            counts = _counts_of(backend, pq.read_metadata(turns).num_rows, named, switches)
        with steps.step(_RATE):
            rates = all_rates(backend, named.filter(named.from_model.notnull()))
        quoted = []
        if n_examples:
            with steps.step(_QUOTE):
                quoted = examples(backend, table, switches, n_examples)
        report = SwitchReport(**counts, **rates, examples=quoted)
        if report.conversations == 0:
            raise RecordError(
                f"{turns}: none of {report.turns:,} turns names a model; expected a column "
                "`model`. Say which column it is with `turnout ingest --map model=COLUMN`."
            )
        if run:
            run.manifest.counts.update({"switches": report.switch_count, "turns": report.turns})
            with steps.step(_WRITE), run.output() as partial:
                _write(partial, report, backend, switches)
                if around:
                    sample = sampled(backend, switches, SAMPLED_SWITCHES)
                    rows = turns_around(backend, table, sample, around)
                    write_parquet(rows, partial / "switch_turns.parquet")
    return report


def _write(
    folder: Path, report: SwitchReport, backend: ibis.BaseBackend, switches: ibis.Table
) -> None:
    # Drawing is slow to import and needed for the page alone.
    from turnout.switches.page import render

    folder.mkdir()
    text = json.dumps(report_json(report), indent=2, ensure_ascii=False) + "\n"
    (folder / REPORT_NAME).write_text(text, encoding="utf-8")
    (folder / PAGE_NAME).write_text(render(report), encoding="utf-8")
    rows = batches(backend, switches, TURN_KEYS)
    write_parquet_in_order(rows, _SWITCHES, folder / "switches.parquet")


def _named_turns(table: ibis.Table, backend: ibis.BaseBackend, catalog: Catalog) -> ibis.Table:
    """One row a turn that names a model, with the switch before it, if any.

    Rows that repeat the conversation and turn index of another are in it too, to be refused.
    """
    facts = with_model_facts(table, backend, catalog)
    facts = facts.select(
        *TURN_KEYS,
        "timestamp",
        "model_name",
        "model_class",
        "provider",
        "regenerated_name",
        "regenerated_provider",
        "regenerated_class",
        chars_at=facts.user_message.length().cast("int32"),
        **fallback_signs(facts),
    )
    facts = with_fallbacks(with_switches(facts))
    in_order = ibis.window(group_by="conversation_id", order_by="turn_index")
    chars, regenerated = facts.chars_at, facts.regenerated_name.notnull()
    provider_before = latest_before(facts, facts.provider.fill_null("")).nullif("")
    facts = facts.mutate(
        regenerated=regenerated,
        from_provider=ibis.ifelse(regenerated, facts.regenerated_provider, provider_before),
        turns_before=ibis.row_number().over(in_order).cast("int64"),
        captured=facts.count().over(ibis.window(group_by="conversation_id")),
        chars_before=chars.lag().over(in_order),
        chars_after=chars.lead().over(in_order),
        repeats=(facts.turn_index.lag().over(in_order) == facts.turn_index).fill_null(False),
    )
    named = facts.filter(facts.model_name.notnull() | facts.repeats)
    return named.mutate(
        to_model=named.model_name,
        to_class=named.model_class.fill_null("unknown"),
        turns_after=named.captured - named.turns_before - 1,
        provider_switch=(named.from_provider != named.provider).fill_null(False),
    ).select(*_SWITCHES.names, "stands_in", "repeats", "regenerated")


def _counts_of(
    backend: ibis.BaseBackend, turns: int, named: ibis.Table, switches: ibis.Table
) -> dict[str, Any]:
    """All of the report except rates and examples."""
    counted = backend.to_pyarrow(switches.group_by(*_COUNTED_BY).agg(n=switches.count()))
    groups = counted.to_pylist()
    return {
        **_models(backend, turns, named),
        "switches": [_kind(kind, groups) for kind in KINDS],
        "fallbacks": _fallbacks(groups),
        "pairs": _pairs(groups, _turns_on(backend, named)),
        "medians": _medians(backend, switches),
    }


def _models(backend: ibis.BaseBackend, turns: int, named: ibis.Table) -> dict[str, Any]:
    per_conversation = named.group_by("conversation_id").agg(
        used=named.to_model.nunique(),
        # A conversation of sub-agents alone is on one model all the same.
        chosen=ibis.greatest(named.to_model.nunique(where=named.stands_in.isnull()), 1),
    )
    by_class = _counts(backend, named, "to_class")
    by_models = _buckets(backend, per_conversation, "used")
    return {
        "turns": turns,
        "turns_without_model": turns - sum(by_class.values()),
        "unknown_models": _counts(backend, named.filter(named.to_class == "unknown"), "to_model"),
        "conversations": sum(by_models.values()),
        "by_models": by_models,
        "by_models_chosen": _buckets(backend, per_conversation, "chosen"),
        "turns_by_class": {c: by_class.get(c, 0) for c in ("reasoning", "fast", "unknown")},
    }


def _buckets(backend: ibis.BaseBackend, conversations: ibis.Table, column: str) -> dict[str, int]:
    models = conversations[column]
    many = len(MODEL_BUCKETS)
    bucket = ibis.ifelse(models >= many, f"{many}+", models.cast("string"))
    counts = _counts(backend, conversations.mutate(bucket=bucket), "bucket")
    return {name: counts.get(name, 0) for name in MODEL_BUCKETS}


def _counts(backend: ibis.BaseBackend, table: ibis.Table, column: str) -> dict[str, int]:
    """Value → rows, most frequent first, then by value."""
    counted = table.group_by(column).agg(n=table.count())
    rows = backend.to_pyarrow(counted).to_pylist()
    return {r[column]: r["n"] for r in sorted(rows, key=lambda r: (-r["n"], r[column]))}


def _turns_on(backend: ibis.BaseBackend, named: ibis.Table) -> dict[tuple[str, str], int]:
    """Answers by model and its class: those of turns, and those that were made again."""
    counts: Counter[tuple[str, str]] = Counter()
    again = named.filter(named.regenerated)
    for table, names in ((named, ("to_model", "to_class")), (again, ("from_model", "from_class"))):
        counted = table.group_by(*names).agg(n=table.count())
        for row in backend.to_pyarrow(counted).to_pylist():
            counts[row[names[0]], row[names[1]]] += row["n"]
    return counts


def _kind(kind: str, groups: Sequence[dict[str, Any]]) -> SwitchKind:
    of_kind = [group for group in groups if group["kind"] == kind]
    return SwitchKind(
        kind=kind,
        count=sum(group["n"] for group in of_kind),
        provider_switches=sum(group["n"] for group in of_kind if group["provider_switch"]),
        fallbacks=sum(group["n"] for group in of_kind if group["fallback_kind"]),
    )


def _fallbacks(groups: Sequence[dict[str, Any]]) -> list[FallbackCount]:
    counted = []
    for fallback in FALLBACKS:
        by_kind = dict.fromkeys(KINDS, 0)
        for group in groups:
            if group["fallback_kind"] == fallback.code:
                by_kind[group["kind"]] += group["n"]
        total = sum(by_kind.values())
        counted.append(FallbackCount(fallback.code, fallback.reason, total, by_kind))
    return counted


def _medians(backend: ibis.BaseBackend, switches: ibis.Table) -> list[SwitchMedians]:
    by_people = switches.filter(~switches.fallback)
    medians = by_people.group_by("kind").agg(
        **{name: by_people[name].median() for name in _MEDIANS}
    )
    by_kind = {row.pop("kind"): row for row in backend.to_pyarrow(medians).to_pylist()}
    nothing = dict.fromkeys(_MEDIANS)
    return [SwitchMedians(kind, **by_kind.get(kind, nothing)) for kind in KINDS]


def _pairs(
    groups: Sequence[dict[str, Any]], turns_on: dict[tuple[str, str], int]
) -> list[ModelPair]:
    names = ("from_model", "from_class", "to_model", "to_class", "kind")
    counted: dict[tuple[str, ...], Counter[bool]] = {}
    for group in groups:
        pair = tuple(group[name] for name in names)
        counted.setdefault(pair, Counter())[group["fallback_kind"] is not None] += group["n"]
    pairs = [
        ModelPair(
            **dict(zip(names, pair, strict=True)),
            count=by_fallback.total(),
            fallbacks=by_fallback[True],
            rate=by_fallback.total() / turns_on[pair[0], pair[1]],
        )
        for pair, by_fallback in counted.items()
    ]
    return sorted(pairs, key=lambda p: (-p.count, p.from_model, p.to_model, p.from_class, p.kind))
