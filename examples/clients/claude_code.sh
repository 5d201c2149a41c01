#!/bin/sh
# Claude Code through the gateway; further arguments are its own.
# With its hint headers Claude Code says which requests are a person's turns, and when it compacted
# the conversation.
export ANTHROPIC_BASE_URL="${TURNOUT_URL:-http://127.0.0.1:8080}"
export ANTHROPIC_MODEL=turnout
export CLAUDE_CODE_GATEWAY_HINT_HEADERS=1
exec claude "$@"
