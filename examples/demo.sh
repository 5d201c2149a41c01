#!/bin/sh
# The whole line, from a conversation log to two routers, their cost and their decisions.
# Usage: sh examples/demo.sh OUTPUT_FOLDER [YOUR_LOG] ["FIELD=COLUMN FIELD=COLUMN …"]
# CONVERSATIONS, ROWS, MAX_TOKENS and EPOCHS in the environment set its sizes.
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
  : "${ROWS:=2400}" "${MAX_TOKENS:=128}" "${EPOCHS:=3}"
else
  : "${ROWS:=1450}" "${MAX_TOKENS:=64}" "${EPOCHS:=2}"
  echo "This machine does not multiply bfloat16. To end in ten minutes the demo trains on less:" \
    "$ROWS rows a router instead of 2400, $EPOCHS epochs instead of 3, $MAX_TOKENS tokens of a" \
    "conversation instead of 128. The routers are weaker for it." >&2
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

step "2. Learn: turns, labels, two data sets, two routers, and what each policy would cost"
# shellcheck disable=SC2086 (no word, or two each)
turnout learn "$logs" -o "$out" $maps $truth --size "$ROWS" --epochs "$EPOCHS" --max-tokens "$MAX_TOKENS"

step "3. Route four messages, two of them the same operation with more and less at stake, and a conversation turn by turn"
for message in \
  "what does HTTP 404 mean?" \
  "Rename the variable tmp to total in this function." \
  "Split the billing service in two without breaking the callers that still use the old events." \
  "Split the billing service in two; breaking the callers that still use the old events is acceptable."; do
  turnout route "$out/session-router" "$message"
done
# With the threshold that the page recommends, where it is one of the conversation router.
settings=""
if grep -qs 'policy = "' "$out/turnout.toml" && ! grep -q 'policy = "session"' "$out/turnout.toml"; then
  settings="-c $out/turnout.toml"
fi
# shellcheck disable=SC2086 (no word, or two)
turnout route "$out/conversation-router" $settings --all-turns --messages examples/conversation.json

step "Done. What now?"
cat <<EOF
Read the page:              $out/index.html
Serve what it recommends:   the command on that page, with your keys in the environment
Use it as a library:        python -c 'import turnout; print(turnout.load("$out/session-router").decide("hello"))'
The same on your own log:   make demo LOGS=path/to/log.jsonl DEMO=build/mine
EOF
