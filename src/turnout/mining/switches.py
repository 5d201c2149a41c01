"""The switches stage: which models conversations use, and where they switch; knows no reason why.

A switch is a pair of consecutive turns of one conversation on different models. Turns that name
no model are passed over. Models are told apart by their canonical names, so two spellings of one
model are no switch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import ibis

from turnout.catalog import Catalog
from turnout.engine import connect, read_turns, require_places, with_model_facts, write_parquet
from turnout.errors import RecordError
from turnout.manifest import Manifest, staged_output, up_to_date
from turnout.mining.fallbacks import FALLBACKS, with_fallbacks
from turnout.mining.switch_rates import all_rates
from turnout.mining.switch_report import (
    KINDS,
    MODEL_BUCKETS,
    FallbackCount,
    ModelPair,
    Surroundings,
    SwitchKind,
    SwitchReport,
)
from turnout.mining.switch_turns import SAMPLED_SWITCHES, examples, sampled, turns_around

REPORT_NAME, PAGE_NAME = "report.json", "report.html"
_AROUND = ("turns_before", "turns_after", "chars_before", "chars_at", "chars_after")
_SWITCH = (
    "conversation_id", "turn_index", "timestamp", "from_model", "from_class", "to_model",
    "to_class", "kind", "provider_switch", "fallback", "fallback_kind", *_AROUND,
)  # fmt: skip


def report_switches(
    turns: Path, catalog: Catalog, *, out: Path | None = None, n_examples: int = 0, around: int = 0
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

    Raises:
        RecordError: If the file is not a turns table or names no model at all.
        StorageError: If `out` cannot be written.
    """
    options = {"catalog": catalog.digest, "examples": n_examples, "around": around}
    manifest = Manifest.of("switches", [turns], options) if out else None
    if out and manifest and up_to_date(out, manifest):
        return SwitchReport.from_json(json.loads((out / REPORT_NAME).read_text(encoding="utf-8")))
    backend = connect()
    table = read_turns(backend, turns)
    require_places(turns)
    # All that is counted is counted of these: computed once, without the messages.
    named = backend.create_table("named", _named_turns(table, backend, catalog), temp=True)
    chances = named.filter(named.from_model.notnull())
    switches = backend.to_pyarrow(
        chances.filter(chances.kind.notnull())
        .select(*_SWITCH)
        .order_by("conversation_id", "turn_index")
    )
    rows = switches.to_pylist()
    report = SwitchReport(
        **_models(backend, table, named),
        switches=[_kind(kind, rows) for kind in KINDS],
        fallbacks=_fallbacks(rows),
        **all_rates(backend, chances),
        pairs=_pairs(rows, _turns_on(backend, named)),
        surroundings=[_surroundings(kind, rows) for kind in KINDS],
        examples=examples(backend, table, rows, n_examples) if n_examples else [],
    )
    if report.conversations == 0:
        raise RecordError(
            f"{turns}: none of {report.turns:,} turns names a model; expected a column `model`. "
            "Say which column it is with `turnout ingest --map model=COLUMN`."
        )
    if out and manifest:
        # Drawing is slow to import and needed for the page alone.
        from turnout.mining.switch_page import render

        content = report.to_json()
        manifest.counts.update({"switches": report.switch_count, "turns": report.turns})
        with staged_output(out, manifest) as partial:
            partial.mkdir()
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            (partial / REPORT_NAME).write_text(text, encoding="utf-8")
            (partial / PAGE_NAME).write_text(render(content), encoding="utf-8")
            write_parquet(switches, partial / "switches.parquet")
            if around:
                sample = turns_around(backend, table, sampled(rows, SAMPLED_SWITCHES), around)
                write_parquet(sample, partial / "switch_turns.parquet")
    return report


def _named_turns(table: ibis.Table, backend: ibis.BaseBackend, catalog: Catalog) -> ibis.Table:
    """One row a turn that names a model, with what led to it; `kind` is null where it stayed."""
    facts = with_model_facts(table, backend, catalog)
    name = ibis.coalesce(facts.model_name, facts.model)
    facts = facts.mutate(name=ibis.ifelse(facts.named, name, ibis.null("string")))
    facts = with_fallbacks(facts, "name")
    in_order = ibis.window(group_by="conversation_id", order_by="turn_index")
    chars = facts.user_message.length()
    facts = facts.mutate(
        turns_before=ibis.row_number().over(in_order).cast("int64"),
        captured=facts.count().over(ibis.window(group_by="conversation_id")),
        chars_at=chars,
        chars_before=chars.lag().over(in_order),
        chars_after=chars.lead().over(in_order),
    )
    named = facts.filter(facts.named).mutate(
        to_model=facts["name"],
        to_class=facts.model_class.fill_null("unknown"),
        turns_after=facts.captured - facts.turns_before - 1,
    )
    pairs = named.mutate(
        from_model=named.to_model.lag().over(in_order),
        from_class=named.to_class.lag().over(in_order),
        from_provider=named.provider.lag().over(in_order),
    )
    switched = pairs.from_model != pairs.to_model
    unknown = (pairs.from_class == "unknown") | (pairs.to_class == "unknown")
    return pairs.mutate(
        kind=ibis.cases(
            (~switched.fill_null(False), ibis.null("string")),
            (unknown, "unknown"),
            (pairs.from_class == pairs.to_class, "lateral"),
            (pairs.to_class == "reasoning", "upgrade"),
            else_="downgrade",
        ),
        provider_switch=(pairs.from_provider != pairs.provider).fill_null(False),
    ).select(*_SWITCH, "model", "model_name", "stands_in")


def _models(backend: ibis.BaseBackend, table: ibis.Table, named: ibis.Table) -> dict[str, Any]:
    per_conversation = named.group_by("conversation_id").agg(
        used=named.to_model.nunique(),
        # A conversation of sub-agents alone is on one model all the same.
        chosen=ibis.greatest(named.to_model.nunique(where=named.stands_in.isnull()), 1),
    )
    by_class = _counts(backend, named, "to_class")
    turns = int(backend.to_pyarrow(table.count()).as_py())
    by_models = _buckets(backend, per_conversation, "used")
    return {
        "turns": turns,
        "turns_without_model": turns - sum(by_class.values()),
        "unknown_models": _counts(backend, named.filter(named.model_name.isnull()), "model"),
        "conversations": sum(by_models.values()),
        "by_models": by_models,
        "by_models_chosen": _buckets(backend, per_conversation, "chosen"),
        "turns_by_class": {c: by_class.get(c, 0) for c in ("reasoning", "fast", "unknown")},
    }


def _buckets(backend: ibis.BaseBackend, conversations: ibis.Table, column: str) -> dict[str, int]:
    models = conversations[column]
    many = len(MODEL_BUCKETS)
    bucket = ibis.ifelse(models >= many, MODEL_BUCKETS[-1], models.cast("string"))
    found = _counts(backend, conversations.mutate(bucket=bucket), "bucket")
    return {name: found.get(name, 0) for name in MODEL_BUCKETS}


def _counts(backend: ibis.BaseBackend, table: ibis.Table, column: str) -> dict[str, int]:
    """Value → rows, most frequent first, then by value."""
    counted = table.group_by(column).agg(n=table.count())
    rows = backend.to_pyarrow(counted).to_pylist()
    return {r[column]: r["n"] for r in sorted(rows, key=lambda r: (-r["n"], r[column]))}


def _turns_on(backend: ibis.BaseBackend, named: ibis.Table) -> dict[tuple[str, str], int]:
    counted = named.group_by("to_model", "to_class").agg(n=named.count())
    rows = backend.to_pyarrow(counted).to_pylist()
    return {(row["to_model"], row["to_class"]): row["n"] for row in rows}


def _kind(kind: str, rows: Sequence[dict[str, Any]]) -> SwitchKind:
    of_kind = [row for row in rows if row["kind"] == kind]
    return SwitchKind(
        kind=kind,
        count=len(of_kind),
        provider_switches=sum(row["provider_switch"] for row in of_kind),
        fallbacks=sum(row["fallback"] for row in of_kind),
    )


def _fallbacks(rows: Sequence[dict[str, Any]]) -> list[FallbackCount]:
    counted = []
    for known in FALLBACKS:
        kinds = [row["kind"] for row in rows if row["fallback_kind"] == known.code]
        by_kind = {kind: kinds.count(kind) for kind in KINDS}
        counted.append(FallbackCount(known.code, known.reason, len(kinds), by_kind))
    return counted


def _surroundings(kind: str, rows: Sequence[dict[str, Any]]) -> Surroundings:
    chosen = [row for row in rows if row["kind"] == kind and not row["fallback"]]
    medians = {}
    for name in _AROUND:
        values = [row[name] for row in chosen if row[name] is not None]
        medians[name] = float(median(values)) if values else None
    return Surroundings(kind, **medians)


def _pairs(rows: Sequence[dict[str, Any]], turns_on: dict[tuple[str, str], int]) -> list[ModelPair]:
    names = ("from_model", "from_class", "to_model", "to_class", "kind")
    counted: dict[tuple[str, ...], list[bool]] = {}
    for row in rows:
        counted.setdefault(tuple(row[name] for name in names), []).append(row["fallback"])
    pairs = [
        ModelPair(
            **dict(zip(names, pair, strict=True)),
            count=len(made),
            fallbacks=sum(made),
            rate=len(made) / turns_on[pair[0], pair[1]],
        )
        for pair, made in counted.items()
    ]
    return sorted(pairs, key=lambda p: (-p.count, p.from_model, p.to_model, p.from_class, p.kind))
