#!/bin/sh
# Both architectures on a large simulated log, judged by its truth; results in docs/results/routers.md.
# Usage: sh benchmarks/simulated_truth.sh OUTPUT_FOLDER
set -eu
out=$1
mkdir -p "$out"

turnout simulate -o "$out/log" --conversations 12000 --seed 11
turnout ingest "$out/log/turns.parquet" -o "$out/turns.parquet"

# Half of the rows are tested, so that the intervals are narrow.
turnout build "$out/turns.parquet" -o "$out/session-data" \
  --architecture session --size 5000 --split 40:10:50
turnout build "$out/turns.parquet" -o "$out/conversation-data" \
  --architecture conversation --size 6000 --split 50:10:40

turnout train "$out/session-data" -o "$out/session-router"
turnout train "$out/conversation-data" -o "$out/conversation-router" --max-tokens 128

turnout evaluate "$out/session-router" "$out/session-data" \
  "$out/conversation-router" "$out/conversation-data" \
  --truth "$out/log/truth.parquet" -o "$out/report"
