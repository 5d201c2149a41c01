"""The person's words apart from a product's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.protocols import split_harness

REMINDER = "<system-reminder>\nRun the linter.\n</system-reminder>"


@pytest.mark.parametrize(
    ("text", "human", "harness"),
    [
        pytest.param("fix it", "fix it", (), id="plain"),
        pytest.param(f"{REMINDER}\nfix it", "fix it", ("reminder",), id="reminder-before"),
        pytest.param(f"fix it\n{REMINDER}", "fix it", ("reminder",), id="reminder-behind"),
        pytest.param(REMINDER, "", ("reminder",), id="reminder-alone"),
        pytest.param(f"a {REMINDER} b {REMINDER}", "a  b", ("reminder",) * 2, id="two"),
        pytest.param(
            "<environment_context>\n  <cwd>/a</cwd>\n</environment_context>", "",
            ("environment",), id="codex-environment",
        ),
        pytest.param(
            "<command-name>/model</command-name>\n<command-args>x</command-args>", "",
            ("command", "command"), id="slash-command",
        ),
        pytest.param("<local-command-stdout>ok</local-command-stdout>", "",
                     ("command output",), id="command-output"),
        pytest.param("[Request interrupted by user for tool use]", "",
                     ("interruption",), id="interruption"),
        pytest.param("Why does it say [Request interrupted by user] here?",
                     "Why does it say [Request interrupted by user] here?", (), id="quoted"),
        pytest.param("[SYSTEM NOTIFICATION - NOT USER INPUT]\nA task ended.", "",
                     ("notification",), id="notification"),
        pytest.param(
            "This session is being continued from a previous conversation that ran out of context.",
            "", ("compaction summary",), id="compaction-summary",
        ),
        pytest.param(
            "<task>\nfix it\n</task>\n<environment_details>\nLinux\n</environment_details>",
            "fix it", ("environment",), id="task-beside-harness",
        ),
        pytest.param("<task>fix it</task>", "<task>fix it</task>", (), id="task-of-a-person"),
        pytest.param(
            "[read_file for 'a.py'] Result:\n<feedback_form>\n<feedback>\nno, b.py\n</feedback>",
            "no, b.py", ("tool result",), id="feedback-in-a-tool-result",
        ),
        pytest.param("[ERROR] You did not use a tool in your previous response!", "",
                     ("tool result",), id="asked-again-for-a-tool"),
        pytest.param(
            "<context>\nThe following items were attached by the user.\n</context>\nfix it",
            "fix it", ("editor",), id="attached-context",
        ),
        pytest.param("<context>a</context> fix it", "<context>a</context> fix it", (),
                     id="context-of-a-person"),
        pytest.param(f"<rules>a</rules> fix it {REMINDER}", "<rules>a</rules> fix it",
                     ("reminder",), id="rules-of-a-person"),
        pytest.param("[bug] Result: it crashes", "[bug] Result: it crashes", (),
                     id="a-persons-list"),
        pytest.param("Stop hook feedback:\n- a test fails", "", ("hook",), id="hook"),
        pytest.param(
            "<attachments>a.py</attachments>\n<user_query>\nfix it\n</user_query>",
            "fix it", ("wrapper",), id="query-in-an-element",
        ),
        pytest.param(
            "### Task:\nRespond to the user query using the provided context.\n<context>\nA page"
            "\n</context>\n\nfix it", "fix it", ("retrieved text",), id="retrieved",
        ),
        pytest.param("What is <system-reminder> for?", "What is <system-reminder> for?", (),
                     id="a-person-writes-of-it"),
        pytest.param("if a < b and [c]", "if a < b and [c]", (), id="brackets"),
        pytest.param("  indented\n", "  indented\n", (), id="spaces-stay"),
    ],
)  # fmt: skip
def test_harness_text_is_set_apart(text, human, harness):
    words = split_harness(text)
    assert (words.human, words.harness) == (human, harness)


@pytest.mark.parametrize(
    ("blocks", "human"),
    [
        pytest.param(["<task>\nfix it\n</task>", "<environment_details>x</environment_details>"],
                     "fix it", id="a-task-beside-another-block"),
        pytest.param(["[use_tool] Result:", "its output", "<feedback>\nagain\n</feedback>"],
                     "again", id="feedback-after-a-result"),
        pytest.param(["[use_tool] Result:", "its output"], "", id="a-result-in-two-blocks"),
        pytest.param(["<user_info>macOS</user_info>\n<rules>Be kind</rules>",
                      "<user_query>fix it</user_query>"], "fix it", id="cursor"),
        pytest.param(["<user_info>macOS</user_info>\n<rules>Be kind</rules>"], "",
                     id="rules-beside-harness"),
        pytest.param(["<image name=[Image #1]>", "</image>", "what is it?"], "what is it?",
                     id="tags-around-an-image"),
    ],
)  # fmt: skip
def test_blocks_of_one_message_tell_of_each_other(blocks, human):
    assert split_harness(*blocks).human == human


@given(st.text(st.sampled_from("ab <>/[]"), max_size=40))
def test_text_without_harness_stays_as_it_is(text):
    assert split_harness(text).human == text


@pytest.mark.parametrize("name", ["system-reminder", "user_query", "task"])
def test_elements_that_are_never_closed_are_searched_once(name):
    text = f"<{name}>" * 200_000 + "</"
    assert split_harness(text).human == text


def test_notices_without_an_end_are_the_persons_and_cost_no_more_than_their_length():
    words = "[Request interrupted by user" * 50_000
    assert split_harness(words).human == words
