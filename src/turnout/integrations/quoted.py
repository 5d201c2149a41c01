"""A conversation inside the `state` of a decision request: as text, messages or any JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from turnout.protocols import grouped, read_request
from turnout.protocols.parts import readable
from turnout.records import Turn

# LiteLLM quotes a conversation in one text; these lines stand before its parts.
_CURRENT = "Classify this message:\n"
_EARLIER = "Recent conversation (context only, do not classify these):\n"
_COUNT = re.compile(r"\nConversation so far: ~\d+ tokens across the request\s*$")
_NUMBERED = re.compile(r"^\[\d+\] (?:(user|assistant): )?", re.MULTILINE)


def turns_of_state(state: object) -> tuple[Turn, ...]:
    """The turns of a state, oldest first; the last is the one to decide."""
    if isinstance(state, str):
        return _turns_of_text(readable(state))
    if isinstance(state, Mapping) and isinstance(state.get("messages"), list):
        return grouped(read_request(state).messages)
    if isinstance(state, list) and any(isinstance(m, Mapping) and "role" in m for m in state):
        return grouped(read_request({"messages": state}).messages)
    return _turns_of_text(json.dumps(state, ensure_ascii=True))


def _turns_of_text(text: str) -> tuple[Turn, ...]:
    before, mark, current = text.rpartition(_CURRENT)
    # A message may contain this mark itself, so it counts only at the start of a line.
    if not mark or (before and not before.endswith("\n")):
        return (Turn(text),) if text.strip() else ()
    _, _, earlier = _COUNT.sub("", before.rstrip()).partition(_EARLIER)
    messages = [*_quoted_messages(earlier), {"role": "user", "content": current}]
    return grouped(read_request({"messages": messages}).messages)


def _quoted_messages(earlier: str) -> list[dict[str, str]]:
    starts = list(_NUMBERED.finditer(earlier))
    ends = [start.start() for start in starts[1:]] + [len(earlier)]
    messages = []
    for start, end in zip(starts, ends, strict=False):
        content = earlier[start.end() : end].strip()
        messages.append({"role": start[1] or "user", "content": content})
        if start[1] is None:  # answers were left out: each ask is a turn of its own
            messages.append({"role": "assistant", "content": ""})
    return messages
