"""Claude Code and Codex themselves, at a gateway in front of a local upstream.

`make test-agents` installs them. Nothing leaves this machine: whatever they ask of anybody else
goes to a proxy that nobody runs.
"""

import os
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.upstream import Cut, Status
from turnout.logs import ingest

ROOT = Path(__file__).resolve().parents[2]
BINARIES = ROOT / ".venv" / "agents" / "node_modules" / ".bin"
HARD, EASY = "prove it", "hello"
FACTS = ("turn_index", "user_message", "assistant_message", "response_type", "completion_tokens")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BINARIES / "codex").exists(), reason="make test-agents installs them"),
]


class Agent:
    """A program in a home of its own.

    Args:
        home: Its home, an empty folder.
        url: Of the gateway.
    """

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(home), "HTTPS_PROXY": "http://127.0.0.1:9",
            "HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1",
            "OPENAI_API_KEY": "k", "CODEX_HOME": str(home), "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "k", "ANTHROPIC_MODEL": "turnout", "DISABLE_TELEMETRY": "1",
            "DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }  # fmt: skip
        (home / "config.toml").write_text(
            'model = "turnout"\nmodel_provider = "turnout"\nanalytics.enabled = false\n'
            '[model_providers.turnout]\nname = "Turnout"\nwire_api = "responses"\n'
            f'base_url = "{url}/v1"\nenv_key = "OPENAI_API_KEY"\n'
        )
        (home / "work").mkdir()

    def run(self, *arguments: str) -> str:
        """What it says."""
        done = subprocess.run(
            [str(BINARIES / arguments[0]), *arguments[1:]], env=self.environment, text=True,
            cwd=self.home / "work", stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
        )  # fmt: skip
        return done.stdout + done.stderr


class ClaudeCode(Agent):
    sessions = ".claude/projects"
    retries = 6  # of a refused request

    def ask(self, words: str, *, again: bool = False) -> str:
        return self.run("claude", "-p", *(["--continue"] if again else []), words)


class Codex(Agent):
    sessions = "sessions"
    retries = 1

    def ask(self, words: str, *, again: bool = False) -> str:
        resumed = ["resume", "--last"] if again else []
        return self.run("codex", "exec", "--skip-git-repo-check", *resumed, words)


@pytest.fixture(params=[ClaudeCode, Codex])
def agent(request, served, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp("home"), served.url)


def test_a_session_is_one_conversation_and_its_own_file_says_the_same(served, agent, tmp_path):
    assert "quick-1" in agent.ask(EASY)
    assert "quick-1" in agent.ask(HARD, again=True)
    (session,) = (agent.home / agent.sessions).rglob("*.jsonl")
    ingest([session], tmp_path / "session.parquet")
    own = pq.read_table(tmp_path / "session.parquet").to_pylist()
    lines = served.lines(own[0]["conversation_id"], 2)
    assert [(line["kind"], line["model_class"]) for line in lines] == [("turn", "fast")] * 2
    ingest(sorted(served.journal.glob("*.jsonl")), tmp_path / "journal.parquet")
    journal = [
        row for row in pq.read_table(tmp_path / "journal.parquet").to_pylist()
        if row["conversation_id"].startswith(own[0]["conversation_id"])
    ]  # fmt: skip
    assert [[row[name] for name in FACTS] for row in journal] == [
        [row[name] for name in FACTS] for row in own
    ]
    assert [row["user_message"] for row in own] == [EASY, HARD]


def test_a_refusal_is_shown_and_is_one_turn_however_often_it_is_tried(served, agent):
    served.upstream.behaviours["quick-1"] = [Status(400, "no such parameter")] * agent.retries
    assert "no such parameter" in agent.ask(EASY)
    lines = served.lines("", agent.retries)[-agent.retries :]
    assert {line["response_type"] for line in lines} == {"failed"}
    assert len({(line["conversation_id"], line["turn_index"]) for line in lines}) == 1


def test_a_stream_that_breaks_is_tried_again_in_the_same_turn(served, agent):
    served.upstream.behaviours["quick-1"] = [Cut(3)]
    assert "quick-1" in agent.ask(EASY)
    lines = served.lines("", 2)[-2:]
    assert [line["response_type"] for line in lines] == ["failed", "success"]
    assert len({(line["conversation_id"], line["turn_index"]) for line in lines}) == 1
