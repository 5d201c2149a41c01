#!/bin/sh
# The whole line on real conversations and on measured prompts; results in docs/results/real-logs.md.
# Usage: sh benchmarks/real_logs.sh DATA_FOLDER OUTPUT_FOLDER
# DATA_FOLDER holds dev_chat_logs/turns.parquet (conversation_id, turn_index, user_message, model, …)
# and reasoning_gap/prompts.parquet (prompt, reasoning_score, fast_score, group).
set -eu
data=$1
out=$2
mkdir -p "$out"

turnout ingest "$data/dev_chat_logs/turns.parquet" -o "$out/turns.parquet"
turnout switches "$out/turns.parquet" -o "$out/switches"

turnout build "$out/turns.parquet" -o "$out/session-data" --architecture session
turnout build "$out/turns.parquet" -o "$out/conversation-data" --architecture conversation
turnout build "$data/reasoning_gap/prompts.parquet" --outcomes -o "$out/gap-data"

turnout train "$out/session-data" -o "$out/session-router"
turnout train "$out/conversation-data" -o "$out/conversation-router"
turnout train "$out/gap-data" -o "$out/gap-router" --max-tokens 160 --epochs 2

turnout evaluate "$out/session-router" "$out/session-data" \
  "$out/conversation-router" "$out/conversation-data" \
  "$out/gap-router" "$out/gap-data" -o "$out/report"
