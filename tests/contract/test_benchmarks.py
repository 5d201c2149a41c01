"""Benchmarks run by hand, so a renamed function would break them unnoticed."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))


@cache
def names_in(module: str) -> set[str]:
    """What a module of Turnout defines or imports, and the modules inside it."""
    path = ROOT / "src" / Path(*module.split("."))
    inside = {p.stem for p in path.glob("*.py")} | {
        p.parent.name for p in path.glob("*/__init__.py")
    }
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom | ast.Import):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names | inside


def test_every_name_that_a_benchmark_imports_from_turnout_exists():
    missing = [
        f"{path}: {node.module}.{alias.name}"
        for path in BENCHMARKS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "turnout"
        for alias in node.names
        if alias.name not in names_in(node.module)
    ]
    assert not missing
