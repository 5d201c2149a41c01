"""Rules of the house that linters cannot say."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest

import turnout
from tests.conftest import LONGEST_FIRST
from turnout import errors
from turnout.cli import VERBS

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
DOCS = "\n".join(p.read_text() for p in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
HEAVY = {"torch", "transformers", "starlette", "httpx", "pandas", "pyarrow", "ibis", "onnxruntime"}


def test_importing_turnout_loads_nothing_heavy():
    code = f"import sys, turnout; print(sorted({HEAVY!r} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_every_verb_shows_its_help_quickly_and_with_an_example():
    code = (
        "import contextlib, sys; from turnout.cli import VERBS, main\n"
        "for verb in VERBS:\n"
        "    sys.argv = ['turnout', verb, '--help']\n"
        "    with contextlib.suppress(SystemExit): main()\n"
        f"    print('heavy:', sorted({HEAVY!r} & set(sys.modules)), end='\\0')"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for verb, text in zip(VERBS, shown.stdout.split("\0")[:-1], strict=True):
        example = text.partition("Example")[2]
        assert f"turnout {verb}" in example, text
        assert "heavy: []" in text, text


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_and_every_option_is_documented(verb):
    assert f"turnout {verb}" in DOCS
    command = importlib.import_module(f"turnout.cli.{verb}").command
    options = [each for each in command.params if isinstance(each, click.Option)]
    missing = [each.opts for each in options if not any(name in DOCS for name in each.opts)]
    assert not [names for names in missing if names != ["--json"]]


def test_every_error_class_is_documented_with_its_exit_code():
    classes = [c for c in vars(errors).values() if isinstance(c, type)]
    codes = [c.exit_code for c in classes]
    assert len(set(codes)) == len(codes)
    for cls in classes:
        assert f"| `{cls.__name__}` | {cls.exit_code} |" in DOCS


def test_the_front_door_is_sorted_and_importable():
    assert sorted(turnout.__all__) == turnout.__all__
    assert all(hasattr(turnout, name) for name in turnout.__all__)


def test_every_module_says_its_purpose_and_asserts_nothing():
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        docstring = ast.get_docstring(tree)
        assert docstring, f"{path}: a module docstring is missing"
        assert docstring.splitlines()[0].endswith("."), f"{path}: its first line is one sentence"
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.Assert)], path


def test_the_architecture_page_draws_every_folder_and_top_level_module():
    page = (ROOT / "docs" / "architecture.md").read_text()
    for path in (ROOT / "src" / "turnout").iterdir():
        if path.suffix == ".py" or (path.is_dir() and (path / "__init__.py").exists()):
            name = path.name if path.suffix else f"{path.name}/"
            assert name in page or path.name == "__init__.py", f"{name} is not drawn"


def test_every_subpackage_imports():
    for path in (ROOT / "src" / "turnout").iterdir():
        if (path / "__init__.py").exists():
            importlib.import_module(f"turnout.{path.name}")


def test_the_files_that_tests_begin_with_exist():
    assert [name for name in LONGEST_FIRST if not (ROOT / "tests" / name).is_file()] == []
