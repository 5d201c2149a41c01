"""README and docs: short pages, links that resolve, and only commands that exist."""

import re
import textwrap
from pathlib import Path

import click

from tests.tiny_router import write_router
from turnout.cli import turnout as group

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXPERIMENTS = sorted((ROOT / "docs" / "experiments").glob("[0-9]*.md"))
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
CONTEXT = click.Context(group)
VERBS = group.list_commands(CONTEXT)


def options_of(verb):
    command = group.get_command(CONTEXT, verb)
    return {"--help", *(o for p in command.params for o in (*p.opts, *p.secondary_opts))}


def commands_in(text):
    """Code of a page: fenced lines with continuations joined, and inline spans, less comments."""
    for block in FENCE.findall(text):
        yield from block.replace("\\\n", " ").splitlines()
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCE.sub("", text)))


def paragraphs_in(text):
    """Prose and list items of a page as `(first line, one joined line)`."""
    text = FENCE.sub("\n\n", text)
    items = re.sub(r"^(?=\s*(?:[-*]|\d+\.)\s)", "\n", text, flags=re.MULTILINE)
    for block in re.split(r"\n\s*\n", items):
        if not block.lstrip().startswith(("|", "#", "!")):
            yield " ".join(block.split())


def test_no_paragraph_has_more_than_six_lines():
    too_long = [
        (page.name, len(lines), lines[0])
        for page in PAGES
        for paragraph in paragraphs_in(page.read_text())
        if len(lines := textwrap.wrap(paragraph, 100)) > 6
    ]
    assert too_long == []


def anchors_of(page):
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_every_relative_link_resolves():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            linked = (page.parent / path).resolve() if path else page
            assert linked.exists(), (page, target)
            assert not anchor or anchor in anchors_of(linked), (page, target)


def test_every_command_and_option_exists():
    anywhere = set().union(*map(options_of, VERBS))
    for page, code in ((p, code) for p in PAGES for code in commands_in(p.read_text())):
        code = code.split(" #")[0]
        verb = re.search(r"\bturnout ([a-z]+)", code)
        if verb and not re.search(r"(pip|import|load) ?.*turnout", code):
            assert verb[1] in VERBS, (page, code)
            known = options_of(verb[1])
            written = OPTION.findall(code[verb.end() :])
        elif code.startswith("--"):
            known, written = anywhere, OPTION.findall(code)
        else:
            continue
        assert set(written) <= known, (page, code)


def test_an_experiment_is_a_question_a_set_up_a_table_and_a_decision():
    index = (ROOT / "docs" / "experiments" / "README.md").read_text()
    for page in EXPERIMENTS:
        text = page.read_text()
        assert re.match(rf"# {page.name[:3]}: \S", text), page
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
            "Question", "Set-up", "Result", "Decision",
        ], page  # fmt: skip
        tables = re.findall(r"^\|[-|]+\|$", text, re.MULTILINE)
        assert len(tables) == 1, page
        prose = [line for line in text.splitlines() if not line.startswith("|")]
        assert len(" ".join(prose).split()) <= 150, page
        assert f"]({page.name})" in index


def test_the_readmes_python_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGES[0].read_text(), re.MULTILINE | re.DOTALL)
    (folder,) = re.findall(r'turnout\.load\("(.*)"\)', code)
    write_router(tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert re.match(r"(reasoning|fast) 0\.\d+ \S", capsys.readouterr().out)


def test_the_results_open_with_at_most_ten_rows_that_link_to_their_pages():
    page = ROOT / "docs" / "results.md"
    table = page.read_text().split("\n\n")[1].splitlines()
    assert table[0].startswith("|")
    assert len(table[2:]) <= 10
    assert all("](results/" in row for row in table[2:])
    topics = {f"results/{p.name}" for p in (ROOT / "docs" / "results").glob("*.md")}
    assert topics == set(re.findall(r"\((results/[\w-]+\.md)\)", page.read_text()))
