"""Helper calls of many products, by what they ask for; what persons ask stays a turn."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from turnout.protocols import read_request
from turnout.protocols.harness import HARNESS_SIGNS
from turnout.protocols.kinds import HELPER_SIGNS, helper_by_wording, kind_of

HELPERS = {
    "title-for-quoted-chat": (
        "title",
        "Generate a short title for the chat.\nReply with the title only.\n\nUser: hi\nAI: hello",
    ),
    "name-for-chat": (
        "title",
        "From the history below, give this conversation a name.\nAt most ten letters, no quotes.",
    ),
    "title-at-the-end-of-the-chat": (
        "title",
        "Please write a five-word title for our conversation, without any punctuation.",
    ),
    "limits-at-the-end": (
        "title",
        "Write a title for the following conversation:\n\n" + "They talk of trains. " * 200 + "\n\n"
        "Answer with the title and nothing else.",
    ),
    "title-then-message": ("title", "Generate a title for this conversation:\n"),
    "question-to-search-for": (
        "query",
        "Given the following conversation and a follow up question, make it a standalone question.",
    ),
    "web-search": ("query", "Perform a web search for the query: axle load limits"),
    "summary-of-the-chat": (
        "compaction",
        "Your task is to create a detailed summary of the conversation so far, with all requests.",
    ),
    "checkpoint": ("compaction", "You are performing a CONTEXT CHECKPOINT COMPACTION. Hand over."),
    "command-to-be-judged": ("permission check", "<policy_spec>\nRules\n</policy_spec>\nrm -r x"),
    "title-of-so-many-words": (
        "title",
        "Please write a 4-6 word title for the following conversation: trains are late",
    ),
    "graph-of-agents": ("compaction", "Create a summary of the conversation above:"),
    "questions-to-follow": (
        "follow-ups",
        "Please predict the three most likely questions that the user would ask, as JSON.",
    ),
    "words-while-they-type": (
        "autocompletion",
        "### Task:\nYou are an autocompletion system. Go on: trains are",
    ),
    "safety-check": ("auxiliary", "[INST] Task: Check if there is unsafe content in it. [/INST]"),
    "face-of-a-message": (
        "auxiliary",
        "Your task is to reflect the speaker's likely facial expression through one.",
    ),
    "prompt-to-be-enhanced": (
        "auxiliary",
        "Generate an enhanced version of this prompt (reply with only the enhanced prompt):\n\nfix",
    ),
    "page-to-be-read": ("auxiliary", "Web page content:\n---\nTimetable\n---\nWhen does it leave?"),
}
PERSONS = [
    "Write a short title for my blog post about bees",
    "Please suggest a concise title for the attached paper.",
    "Summarize this conversation between Bob and Ann",
    "Your task is to write a poem about trains",
    "Generate a session table in SQL, and reply with the code only",
    "Give the new thread pool a name",
    "What is the title of the chat window called in GTK?",
]


@pytest.mark.parametrize(("kind", "text"), HELPERS.values(), ids=HELPERS)
def test_a_helper_call_is_known_by_its_wording(kind, text):
    assert helper_by_wording(text) == kind
    assert helper_by_wording(f"\n{text}") == kind


@pytest.mark.parametrize("text", PERSONS)
def test_what_a_person_asks_is_no_helper_call(text):
    assert helper_by_wording(text) is None


@pytest.mark.parametrize("text", [text for _, text in HELPERS.values()], ids=HELPERS)
def test_a_search_of_many_texts_misses_no_helper_call(text):
    assert pc.match_substring_regex(pa.array([text]), f"{HARNESS_SIGNS}|{HELPER_SIGNS}")[0].as_py()


@pytest.mark.parametrize(
    ("instructions", "kind"),
    [
        ("You are a title generator. Output a thread's title.", "title"),
        ("Write a pithy title for the user's chat.", "title"),
        ("Does the message begin another topic? If so, extract a two-word title for it.", "turn"),
        ("If the message begins a new topic, extract a short title for this topic.", "title"),
        ("Given a chat history and the latest question, write a standalone question.", "query"),
        ("You write one-line Git commit messages of the diffs below.", "auxiliary"),
        ("You help in a book store. Titles of books are italic.", "turn"),
    ],
)
@pytest.mark.parametrize("wire_format", ["chat", "messages", "responses"])
def test_a_helper_call_is_known_by_its_instructions(instructions, kind, wire_format):
    asked = {"role": "user", "content": "why is it slow"}
    body = {
        "chat": {"messages": [{"role": "system", "content": instructions}, asked]},
        "messages": {"system": [{"type": "text", "text": instructions}], "messages": [asked]},
        "responses": {"instructions": instructions, "input": [asked]},
    }[wire_format]
    assert kind_of(read_request(body), {}) == kind
    with_tools = read_request({**body, "tools": [{"name": "run"}]})
    assert kind_of(with_tools, {}) == "turn"


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_a_request_for_no_more_than_a_token_is_no_turn(limit):
    asked = [{"role": "user", "content": "quota"}]
    body = {"input": asked} if limit == "max_output_tokens" else {"messages": asked}
    assert kind_of(read_request({**body, limit: 1}), {}) == "auxiliary"
    assert kind_of(read_request({**body, limit: 0}), {}) == "auxiliary"
    assert kind_of(read_request({**body, limit: 2}), {}) == "turn"
