#!/bin/sh
# What previous turns are worth where the truth depends on them; results in docs/results/conversation.md.
# Usage: sh benchmarks/conversation_truth.sh OUTPUT_FOLDER [TURNS.parquet …]
# Further tables of turns, real ones, are probed with the same router; they need no label.
set -eu
out=$1
shift
mkdir -p "$out"

turnout simulate -o "$out/log" --conversations 12000 --seed 11
turnout ingest "$out/log/turns.parquet" -o "$out/turns.parquet"
turnout label "$out/turns.parquet" -o "$out/labels.parquet"
turnout build "$out/turns.parquet" -o "$out/data" --architecture conversation \
  --labels "$out/labels.parquet" --size 5000 --split 50:10:40
turnout train "$out/data" -o "$out/router"
turnout evaluate "$out/router" "$out/data" --truth "$out/log/truth.parquet" -o "$out/report"
python benchmarks/turn_structure.py "$out/router" "$out/turns.parquet" "$@"
