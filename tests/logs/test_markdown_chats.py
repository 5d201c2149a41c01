"""Chats that editors write as Markdown."""

from turnout.logs.formats import RawRow
from turnout.logs.readers import rows_of_turns

CURSOR = """# Trains
_Exported on 4/2/2026 at 11:00:00 GMT+2 from Cursor (1.2.3)_

---

**User**

Find it

---

**Cursor**

Found.

---

It has a rule.

---

**User**

Fix it
"""
AIDER = """
# aider chat started at 2026-04-02 11:00:00

> Aider v0.80
> Model: o3 with diff edit format

#### /add a.py
> Added a.py to the chat

#### Find it
#### in a.py

Found.

> Tokens: 1k sent

#### /model gpt-4o
> Main model: gpt-4o with diff edit format

#### /ask why?

So.

# aider chat started at 2026-04-03 09:00:00

> Model: gpt-4o with diff edit format

#### Hello

Hi.
"""


def read(text):
    raw = RawRow("a.md", {"markdown": text, "name": "a"})
    return [row.values for row in rows_of_turns([raw], "a.md")]


def test_an_export_of_cursor_is_a_conversation():
    turns = read(CURSOR)
    assert [(t["user_message"], t["assistant_message"]) for t in turns] == [
        ("Find it", "Found.\n\n---\n\nIt has a rule."), ("Fix it", None),
    ]  # fmt: skip
    assert len({turn["conversation_id"] for turn in turns}) == 1


def test_a_session_of_aider_is_a_conversation_with_its_models():
    turns = read(AIDER)
    names = ("conversation_id", "turn_index", "user_message", "model", "assistant_message")
    assert [tuple(turn[name] for name in names) for turn in turns] == [
        ("2026-04-02 11:00:00", 1, "Find it\nin a.py", "o3", "Found."),
        ("2026-04-02 11:00:00", 2, "why?", "gpt-4o", "So."),
        ("2026-04-03 09:00:00", 1, "Hello", "gpt-4o", "Hi."),
    ]


def test_other_markdown_is_no_chat():
    assert read("# Notes\n\n#### A heading\n\n> A quotation\n") == []
