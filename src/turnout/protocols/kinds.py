"""What kind of request it is: a person's turn, its continuation, or a product's helper call.

Helper calls are no turns: a product makes them for itself, often on a small model. They are told by
what they ask for, since few products mark them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Literal, TypeAlias, cast, get_args

from turnout.protocols.parts import text
from turnout.protocols.records import Request

RequestKind: TypeAlias = Literal[
    "turn", "continuation", "title", "tags", "follow-ups", "permission check", "compaction",
    "query", "autocompletion", "sub-agent", "token count", "auxiliary",
]  # fmt: skip
KINDS: tuple[RequestKind, ...] = get_args(RequestKind)

# A helper call shows at the beginning of its last user message or of its system prompt.
_BEGINNING_CHARS = 600
_WORDINGS: tuple[tuple[RequestKind, str], ...] = (
    (
        "compaction",
        r"CRITICAL: Respond with TEXT ONLY"
        r"|Your (?:urgent )?task is to create a (?:comprehensive )?(?:detailed )?summary of the"
        r" conversation"
        r"|The current conversation is rapidly running out of context"
        r"|Provide a detailed (?:prompt|summary) for continuing our conversation"
        r"|You are performing a CONTEXT CHECKPOINT COMPACTION"
        r"|Summarize the (?:discussion|conversation) briefly in \d+ words or less to use as a"
        r"|Progressively summarize the lines of conversation"
        r"|First, reason in your scratchpad\. Then, generate the <state_snapshot>"
        r"|Create a summary of the conversation above:"
        r"|Extend the summary by taking into account the new messages above:"
        r"|This is a summary of the conversation to date:",
    ),
    (
        "permission check",
        r"<transcript>|<policy_spec>"
        r"|The following is the Codex agent history (?:whose request action|added since)",
    ),
    (
        "title",
        r"<session>"
        r"|(?i:Generate a title for this (?:conversation|chat|thread))"
        # Without a transcript after it, it may be a person's.
        r"|(?i:(?:Please )?(?:generate|write|create|provide) an? (?:(?:very|concise|short|brief"
        r"|\d+-\d+ word),? ){0,3}title for (?:this|the following) (?:coding )?"
        r"(?:conversation|chat|thread)\b)[^\n:]{0,300}[:\n]"
        r"|Create a concise, 3-5 word phrase as a header for the following query"
        r"|Generate a concise, single-line task title of at most \d+ characters"
        r"|You need to decompose the user's input into \"subject\" and \"intention\""
        r"|Analyze the given short conversation \(every line is truncated\)"
        r"|使用四到五个字直接返回|(?:你是一名擅长会话的助理[^\n]{0,20})?你?需要?将(?:用户的|以下)?(?:会话|对话)总结为",
    ),
    (
        "follow-ups",
        r"\[SUGGESTION MODE\b"
        r"|Please (?:help me )?predict the three most likely (?:follow-up )?questions that"
        r" (?:the )?(?:human|user) would ask",
    ),
    ("autocompletion", r"### Task:\s*\n?You are an autocompletion system\b"),
    # Emojis and answers that are merged: Open WebUI; safety checks; memories: Mem0.
    (
        "auxiliary",
        r"Web page content:\s*\n---|Warmup\s*$"
        r"|Your task is to reflect the speaker's likely facial expression through"
        r"|You have been provided with a set of responses from various models to the latest user"
        r"|(?:\[INST\] )?Task: Check if there is unsafe content in"
        r"|You are a Personal Information Organizer, specialized in"
        r"|You are a smart memory manager which controls the memory of a system"
        r"|Extract any file paths that this command reads or modifies"
        r"|Generate an enhanced version of this prompt \(reply with only",
    ),
    # A question is to be rewritten so that a search understands it: LangChain, LlamaIndex.
    (
        "query",
        r"Perform a web search for the query:"
        r"|(?is:Given (?:a|the following) (?:conversation|chat history)\b.{0,300}?\bstandalone\b)",
    ),
)
_WORDING = re.compile("|".join(f"({words})" for _, words in _WORDINGS))
# A title is asked for and the conversation quoted, as LibreChat and others do.
_TITLE = re.compile(
    r"(?:please )?(?:provide|write|generate|create) an? (?:very )?(?:concise|short|brief)"
    r"[^\n]*title",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"^\W{0,4}(?:user|human)\W{0,3}:", re.IGNORECASE | re.MULTILINE)
# A name for a conversation is asked for, and nothing around it: what persons do not ask of one.
_NAMING = re.compile(
    r"\b(?:provide|write|generate|create|give|suggest|make|reply with|come up with)\b[^\n.]{0,120}"
    r"\b(?:titles?|name)\b",
    re.IGNORECASE,
)
_OF_CHAT = re.compile(
    r"\b(?:conversation|chat|thread|session|discussion|following request|(?:previous|user'?s) "
    r"query)\b",
    re.IGNORECASE,
)
_BARE = re.compile(
    r"\bnothing else\b|\bno quot|\bwithout any (?:lead-in|preamble|quot|punct|additional)"
    r"|\bonly (?:return|respond|reply|output|the title)\b|\b(?:return|respond|reply|output)\b"
    r"[^\n.]{0,30}\bonly\b|\b(?:avoid|omit(?:ting)?) (?:punctuation|quot)"
    r"|\bno additional text\b|\ba brief title for the following request:",
    re.IGNORECASE,
)
# What the message of a helper call holds, for engines that search many texts at once.
HELPER_SIGNS = "|".join(
    [
        r"^\s*### Task:",
        r"^\s*(?i:(?:please )?(?:provide|write|generate|create) an? )",
        *(rf"^\s*(?:{words})" for _, words in _WORDINGS),
        rf"(?i:{_BARE.pattern})",
    ]
)
# What the system prompt of a call for a title says.
_TITLE_MAKER = re.compile(
    r"\btitle generator\b|\btitling assistant\b|\bconversation titles? assistant\b"
    r"|\b(?:generate|write|create|craft(?:ing)?|extract|provide)\b[^\n.]{0,60}\btitles?\b[^\n.]{0,60}"
    r"\b(?:conversations?|chats?|threads?|chatbot|first message|topic)\b"
    r"|\bconversation into a title\b"
    r"|\bSummarize the user'?s (?:request|query|message) into a (?:single )?short sentence",
    re.IGNORECASE,
)
# What the system prompt of a call for a commit's message says.
_COMMIT_WRITER = re.compile(
    r"\b(?:generat|writ|creat|com(?:e|ing) up with)[^.\n]{0,100}\bcommit messages?\b", re.IGNORECASE
)
# Open WebUI and those who copied it: `### Task:` and a line that says which.
_TASK = re.compile(r"### Task:\s*\n?([^\n]*)")
_TASKS: tuple[tuple[RequestKind, re.Pattern[str]], ...] = (
    ("title", re.compile(r"\btitle\b", re.IGNORECASE)),
    ("tags", re.compile(r"\btags?\b", re.IGNORECASE)),
    ("follow-ups", re.compile(r"\bfollow-?\s?ups?\b", re.IGNORECASE)),
    ("query", re.compile(r"\b(?:search|quer(?:y|ies)|necessity)\b", re.IGNORECASE)),
    ("autocompletion", re.compile(r"\bautocomplet", re.IGNORECASE)),
)
_HISTORY = ("<chat_history>", "### Chat History:")
_CLASSES = {
    "subagent": "sub-agent", "workflow": "sub-agent", "compaction": "compaction",
    "auxiliary": "auxiliary",
}  # fmt: skip
# What Codex says of a thread that it runs for itself; any other is a sub-agent's.
_CODEX_THREADS: Mapping[str, RequestKind] = {
    "thread_title": "title",
    "guardian": "permission check",
    "guardian_review": "permission check",
    "memory_consolidation": "auxiliary",
    "compact": "compaction",
}
# Properties of an answer's schema that give a helper call away where no tools are offered.
_SCHEMAS: Mapping[str, RequestKind] = {
    "title": "title", "tags": "tags", "follow_ups": "follow-ups", "queries": "query",
}  # fmt: skip


def kind_of(request: Request, headers: Mapping[str, str]) -> RequestKind:
    """The kind of a request.

    Args:
        request: What was asked.
        headers: The caller's, with names in lower case; empty where a log has none.
    """
    marked = _marked(headers)
    if marked is not None:
        return marked
    last = next((m for m in reversed(request.messages) if m.role != "system"), None)
    if last is None:
        return "auxiliary"
    if last.role == "user" and (helper := helper_by_wording(last.text)):
        return helper
    if not request.tools and (helper := _without_tools(request)):
        return helper
    return "turn" if last.is_human else "continuation"


def _marked(headers: Mapping[str, str]) -> RequestKind | None:
    """What clients say themselves in headers."""
    if headers.get("x-claude-code-agent-id"):
        return "sub-agent"
    said = _CLASSES.get(headers.get("x-claude-code-request-class", ""))
    if said is not None:
        return cast(RequestKind, said)
    return _marked_by_codex(headers)


def _marked_by_codex(headers: Mapping[str, str]) -> RequestKind | None:
    metadata = codex_metadata(headers)
    if metadata.get("request_kind") == "compaction":
        return "compaction"
    if headers.get("x-openai-memgen-request"):
        return "auxiliary"
    source = text(metadata.get("thread_source")) or ""
    sub_agent = text(metadata.get("subagent_kind")) or headers.get("x-openai-subagent") or ""
    helper = _CODEX_THREADS.get(source) or _CODEX_THREADS.get(sub_agent)
    return helper or ("sub-agent" if sub_agent or source == "subagent" else None)


def codex_metadata(headers: Mapping[str, str]) -> Mapping[str, object]:
    """What Codex says of a request's turn; empty where it says nothing."""
    said = headers.get("x-codex-turn-metadata")
    if not said:
        return {}
    try:
        metadata = json.loads(said)
    except (ValueError, RecursionError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


def helper_by_wording(text: str) -> RequestKind | None:
    """The kind of a helper call, by its last user message; None where a person may have written it.

    Args:
        text: The message, without harness text.
    """
    text = text.lstrip()
    beginning = text[:_BEGINNING_CHARS]
    if (match := _WORDING.match(beginning)) is not None:
        return _WORDINGS[(match.lastindex or 1) - 1][0]
    if _asks_for_title(text, beginning):
        return "title"
    task = _TASK.match(text)
    if task is None or not any(mark in text for mark in _HISTORY):
        return None
    return next((kind for kind, pattern in _TASKS if pattern.search(task[1])), "auxiliary")


def _asks_for_title(text: str, beginning: str) -> bool:
    if "itle" not in beginning and "name" not in beginning:
        return False
    if _TITLE.match(beginning) and _QUOTED.search(text):
        return True
    ends = f"{beginning}\n{text[-_BEGINNING_CHARS:]}"
    return all(pattern.search(ends) for pattern in (_NAMING, _OF_CHAT, _BARE))


def helper_by_instructions(text: str) -> RequestKind | None:
    """The kind of a helper call, by its system prompt; None where it is a product's for persons."""
    beginning = text.lstrip()[:_BEGINNING_CHARS]
    if (match := _WORDING.match(beginning)) is not None:
        return _WORDINGS[(match.lastindex or 1) - 1][0]
    if _COMMIT_WRITER.search(beginning):
        return "auxiliary"
    return "title" if _TITLE_MAKER.search(beginning) else None


def _without_tools(request: Request) -> RequestKind | None:
    """What gives a call away that offers no tools: its limits, its answer's form, its instructions.

    An answer of one token warms a cache or tries a key.
    """
    if request.max_answer_tokens is not None and request.max_answer_tokens <= 1:
        return "auxiliary"
    system = next((m.text for m in request.messages if m.role == "system" and m.text), "")
    return _by_schema(request.answer_schema) or helper_by_instructions(
        request.instructions or system
    )


def _by_schema(schema: Mapping[str, object]) -> RequestKind | None:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or len(properties) != 1:
        return None
    return _SCHEMAS.get(next(iter(properties)))
