"""Every example for a client runs as it stands, against a gateway and an upstream."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from turnout.gateway.options import PROTOCOLS
from turnout.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "examples" / "clients"
PAGES = ROOT / "docs" / "gateway"
NODE_MODULES = ROOT / ".venv" / "node-clients" / "node_modules"


def run(served, *command, **environment):
    """What a program prints whose environment points at the gateway."""
    own = {
        "PATH": os.environ["PATH"], "OPENAI_BASE_URL": f"{served.url}/v1", "OPENAI_API_KEY": "k",
        "ANTHROPIC_BASE_URL": served.url, "ANTHROPIC_API_KEY": "k", "TURNOUT_URL": served.url,
    }  # fmt: skip
    shown = subprocess.run(
        command, env=own | environment, capture_output=True, text=True, timeout=120
    )
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "page", "said"),
    [
        ("openai_sdk.py", "openai.md",
         ["chat: from deep-1 ✓", "went to: reasoning because p_reasoning",
          "responses: from quick-1 ✓", "named: from quick-1 ✓"]),
        ("anthropic_sdk.py", "anthropic.md",
         ["tokens: 42", "messages: from deep-1 ✓", "went to: reasoning"]),
        ("langchain_client.py", "langchain.md",
         ["whole: from deep-1 ✓", "streamed: from quick-1 ✓"]),
    ],
)  # fmt: skip
def test_an_example_in_python_and_what_its_page_says_to_paste_are_routed(
    served, script, page, said
):
    one_after_the_other = (
        "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')\n"
        "print('pasted:'); exec(sys.argv[2], {'__name__': '__main__'})"
    )
    paste = blocks(page, "python")[0]
    printed = run(served, sys.executable, "-c", one_after_the_other, CLIENTS / script, paste)
    shown, pasted = printed.split("pasted:")
    assert [words for words in said if words not in shown] == []
    assert "from deep-1" in pasted


@pytest.mark.slow
@pytest.mark.skipif(not NODE_MODULES.is_dir(), reason="npm gave no clients for Node")
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("openai_sdk.mjs", ["chat: from deep-1 ✓", "responses: from quick-1 ✓"]),
        ("anthropic_sdk.mjs", ["messages: from deep-1 ✓"]),
    ],
)
def test_an_example_in_node_is_routed(served, tmp_path, script, said):
    shutil.copy(CLIENTS / script, tmp_path)
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    shown = run(served, "node", tmp_path / script)
    assert [words for words in said if words not in shown] == []


def test_claude_code_is_started_with_the_gateways_address_and_model(served, tmp_path):
    program = tmp_path / "claude"
    program.write_text('#!/bin/sh\nenv\necho "arguments: $*"\n')
    program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    shown = run(served, CLIENTS / "claude_code.sh", "-p", "Why?", PATH=path).splitlines()
    assert {f"ANTHROPIC_BASE_URL={served.url}", "ANTHROPIC_MODEL=turnout",
            "CLAUDE_CODE_GATEWAY_HINT_HEADERS=1", "arguments: -p Why?"} <= set(shown)  # fmt: skip


def test_the_settings_for_codex_name_a_provider_that_they_define():
    settings = tomllib.loads((CLIENTS / "codex.toml").read_text())
    provider = settings["model_providers"][settings["model_provider"]]
    assert (settings["model"], provider["wire_api"]) == ("turnout", "responses")
    assert provider["base_url"] == "http://127.0.0.1:8080/v1"


def blocks(page, language):
    """The code of a page."""
    return re.findall(rf"```{language}\n(.*?)```", (PAGES / page).read_text(), re.DOTALL)


@pytest.mark.slow
@pytest.mark.skipif(not NODE_MODULES.is_dir(), reason="npm gave no clients for Node")
@pytest.mark.parametrize("page", ["openai.md", "anthropic.md"])
def test_what_a_page_says_to_paste_runs_in_node(served, tmp_path, page):
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    (tmp_path / "pasted.mjs").write_text(blocks(page, "js")[0])
    assert "from deep-1" in run(served, "node", tmp_path / "pasted.mjs")


def test_the_settings_of_ten_lines_serve_every_protocol(tmp_path):
    (text,) = blocks("README.md", "toml")
    assert len(text.splitlines()) <= 10
    (tmp_path / "turnout.toml").write_text(text)
    path = tmp_path / "turnout.toml"
    options = load_settings(path).gateway_options(path)
    for protocol in PROTOCOLS:
        for model_class in ("reasoning", "fast"):
            upstreams = [target.upstream for target in options.targets_of(model_class)]
            assert any(protocol in options.upstreams[name].protocols for name in upstreams)
