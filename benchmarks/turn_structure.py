"""Probes of a conversation router on any table of turns; results in docs/results/conversation.md.

Usage: python benchmarks/turn_structure.py ROUTER_FOLDER TURNS.parquet …

A table needs conversation_id, turn_index and user_message; no label. What is probed is explained
in docs/evaluation.md (checks E009 to E011).
"""

import sys
from itertools import groupby
from pathlib import Path

import pyarrow.parquet as pq

from turnout.evaluation.probes import Probe, probe, probes_of
from turnout.records import Turn
from turnout.routing import RouterFolder
from turnout.stats.bootstrap import Estimate

SEED = 0
_COLUMNS = ["conversation_id", "turn_index", "user_message"]


def probes(table: Path, previous_turns: int) -> list[Probe]:
    """First messages, and the beginnings of other conversations."""
    rows = pq.read_table(table, columns=_COLUMNS).to_pylist()
    rows = [row for row in rows if row["user_message"]]
    rows.sort(key=lambda row: (row["conversation_id"], row["turn_index"]))
    first, conversations = [], []
    for conversation_id, group in groupby(rows, key=lambda row: row["conversation_id"]):
        turns = list(group)
        if turns[0]["turn_index"] == 1:
            first.append((conversation_id, turns[0]["user_message"]))
        if len(turns) > 1:
            seen = tuple(Turn(turn["user_message"]) for turn in turns[:previous_turns])
            conversations.append((conversation_id, seen))
    return probes_of(first, conversations, SEED)


def shown(estimate: Estimate) -> str:
    """A number and its interval."""
    return f"{estimate.value:+.3f} ({estimate.low:+.3f} to {estimate.high:+.3f})"


def main() -> None:
    """Probe the router on every table."""
    router = RouterFolder.read(sys.argv[1])
    formatter, scorer = router.spec.formatter, router.scorer()
    for table in map(Path, sys.argv[2:]):
        chosen = probes(table, formatter.previous_turns)
        if not chosen:
            print(f"{table}: too few first messages to probe with")
            continue
        result = probe(scorer, formatter, chosen, SEED)
        print(f"{table}: {result.probes} probes")
        print(f"  first turns read as a session router reads them: {result.first_turns_alike}")
        print(f"  follow-up scored as its request, rank correlation: {shown(result.following)}")
        print(f"  moved by an unrelated conversation: {shown(result.moved_by_history)}")
        print(f"  moved by a greeting: {shown(result.moved_by_greeting)}")
        print(f"  more by the conversation: {shown(result.excess)}", flush=True)


if __name__ == "__main__":
    main()
