#!/bin/sh
# The whole line, from a conversation log to two routers, step by step.
# Usage: sh examples/demo.sh OUTPUT_FOLDER [YOUR_LOG] ["FIELD=COLUMN FIELD=COLUMN …"]
# CONVERSATIONS, SESSION_ROWS, CONVERSATION_ROWS, MAX_TOKENS and EPOCHS in the environment set its sizes.
set -eu
out=$1
logs=${2:-}
maps=""
for pair in ${3:-}; do maps="$maps --map $pair"; done
mkdir -p "$out"

# Without bfloat16 training takes four to five times as long: fewer rows, epochs and tokens there.
multiplies_bfloat16='
import sys, torch
from turnout.training.precision import has_bfloat16
device = "cuda" if torch.cuda.is_available() else "cpu"
sys.exit(not has_bfloat16(torch.device(device), "auto"))'
if python -c "$multiplies_bfloat16"; then
  : "${SESSION_ROWS:=1600}" "${CONVERSATION_ROWS:=2700}" "${MAX_TOKENS:=128}" "${EPOCHS:=3}"
else
  : "${SESSION_ROWS:=1400}" "${CONVERSATION_ROWS:=1500}" "${MAX_TOKENS:=64}" "${EPOCHS:=2}"
  echo "This machine does not multiply bfloat16. To end in ten minutes the demo trains on less:" \
    "$SESSION_ROWS and $CONVERSATION_ROWS rows instead of 1600 and 2700, $EPOCHS epochs instead of 3," \
    "$MAX_TOKENS tokens of a conversation instead of 128. The routers are weaker for it." >&2
fi
: "${CONVERSATIONS:=2000}"

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }

if [ -z "$logs" ]; then
  step "1. A log to learn from: $CONVERSATIONS simulated conversations, their truth kept apart"
  turnout simulate -o "$out/log" --conversations "$CONVERSATIONS" --seed 7
  logs=$out/log/turns.parquet
  truth="--truth $out/log/truth.parquet"
else
  step "1. Your log: $logs"
  truth=""
fi

step "2. Ingest: any log becomes one turns table"
# shellcheck disable=SC2086 (no word, or two a column)
turnout ingest "$logs" -o "$out/turns.parquet" $maps

step "3. Which models people use, and how they switch"
turnout switches "$out/turns.parquet" -o "$out/switches"

step "4. What each turn needed, by all evidence: model chosen, switches, effort, what was said next"
turnout label "$out/turns.parquet" -o "$out/labels.parquet"

step "5. Two data sets: first turns (session), every turn with its context (conversation)"
turnout build "$out/turns.parquet" --labels "$out/labels.parquet" -o "$out/session-data" --architecture session --split 70:10:20 --size "$SESSION_ROWS"
turnout build "$out/turns.parquet" --labels "$out/labels.parquet" -o "$out/conversation-data" --architecture conversation --split 70:10:20 --size "$CONVERSATION_ROWS"

step "6. Fine-tune a BERT classifier for each, calibrate, export"
turnout train "$out/session-data" -o "$out/session-router" --epochs "$EPOCHS"
turnout train "$out/conversation-data" -o "$out/conversation-router" --epochs "$EPOCHS" --max-tokens "$MAX_TOKENS"

step "7. Evaluate both beside random, length, TF-IDF and nearest neighbours"
# shellcheck disable=SC2086 (truth is empty or two words)
turnout evaluate "$out/session-router" "$out/session-data" \
  "$out/conversation-router" "$out/conversation-data" $truth -o "$out/report"

step "8. Route four messages, two of them the same operation with more and less at stake, and a conversation turn by turn"
for message in \
  "what does HTTP 404 mean?" \
  "Rename the variable tmp to total in this function." \
  "Split the billing service in two without breaking the callers that still use the old events." \
  "Split the billing service in two; breaking the callers that still use the old events is acceptable."; do
  turnout route "$out/session-router" "$message"
done
turnout route "$out/conversation-router" --all-turns --messages examples/conversation.json

step "Done. What now?"
cat <<EOF
Read the report:            $out/report/report.html
Serve a router:             turnout serve $out/session-router -c examples/turnout.toml
Use it as a library:        python -c 'import turnout; print(turnout.load("$out/session-router").decide("hello"))'
The same on your own log:   make demo LOGS=path/to/log.jsonl DEMO=build/mine
EOF
