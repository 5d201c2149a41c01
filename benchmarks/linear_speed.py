"""How long the linear model on words takes; results in docs/results/training-speed.md.

Usage: python benchmarks/linear_speed.py [--rows N …]

The rows are the first turns of a simulated log, with the needs that the simulator knows and all
previous turns that the model reads. Prints CPU seconds of one thread, as other work on the machine
does not change them: to tokenise, to choose penalty and scales, to fit, and the peak of memory.
"""

import argparse
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from grouped_cv import Turns
from learning_curve import simulated

from turnout.progress import silent
from turnout.records import LABEL_FAST, LABEL_REASONING
from turnout.routing import Formatter
from turnout.routing.encoding import InputEncoder
from turnout.routing.formatter import MAX_STORED_TURNS, SEPARATOR
from turnout.samples import Samples
from turnout.training.encoder import load_base
from turnout.training.linear import MAX_TOKENS, fit_linear

TURNS_A_CONVERSATION = 3


def main() -> None:
    """Print a row for every number of rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        conversations = max(arguments.rows) // TURNS_A_CONVERSATION
        turns = Turns.read(simulated(Path(folder), 0, conversations), "cv_group")
    tokenizer = load_base(None, 0).tokenizer
    separator = tokenizer.token_to_id(SEPARATOR.strip())
    reader = InputEncoder(tokenizer, MAX_TOKENS)
    print("| rows | tokens | tokenise | choose and fit | fit alone | peak memory, GB |")
    print("|---|---|---|---|---|---|", flush=True)
    for count in arguments.rows:
        samples = _samples(turns, count)
        started_s = time.process_time()
        tokens = [reader.encode(row) for row in samples.inputs]
        seconds = [time.process_time() - started_s]
        for options in ({}, {"penalties": (1.0,)}):
            started_s = time.process_time()
            fit_linear(tokens, separator, samples, 0, silent, **options)
            seconds.append(time.process_time() - started_s)
        total = sum(len(row.ids) for row in tokens)
        peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        cells = [f"{value:.1f}" for value in (*seconds, peak_gb)]
        print(f"| {len(samples):,} | {total:,} | {' | '.join(cells)} |", flush=True)


def _samples(turns: Turns, count: int) -> Samples:
    formatter = replace(Formatter("conversation"), previous_turns=MAX_STORED_TURNS)
    rows = turns.rows[:count]
    shown = zip(turns.turns, rows, strict=False)
    needs = turns.needs[:count]
    return Samples(
        inputs=[formatter.format(before, row["turn_index"]) for before, row in shown],
        conversation_ids=[row["conversation_id"] for row in rows],
        turn_indices=np.asarray([row["turn_index"] for row in rows], np.int32),
        groups=[None] * len(rows),
        labels=np.where(needs, LABEL_REASONING, LABEL_FAST).astype(np.int8),
        targets=needs.astype(np.float32),
        weights=np.ones(len(rows), np.float32),
        cv_groups=[None] * len(rows),
    )


if __name__ == "__main__":
    main()
