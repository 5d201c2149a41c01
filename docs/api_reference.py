"""Write the reference of docs/api.md from the docstrings: python docs/api_reference.py."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import turnout

PAGE = Path(__file__).with_name("api.md")
START = "## Reference\n"
_METHODS = {
    "Data": ("save",),
    "Evaluation": ("table", "arrow", "plot"),
    "RouterClassifier": ("fit", "predict_proba", "predict", "decide", "with_threshold", "save"),
}


def reference() -> str:
    """Every public name with its signature and docstring."""
    parts = [START]
    for name in turnout.__all__:
        value = getattr(turnout, name)
        parts.append(_entry(name, value))
        parts += [_entry(f"{name}.{each}", getattr(value, each)) for each in _METHODS.get(name, ())]
    return "\n".join(parts)


def _entry(name: str, value: object) -> str:
    shown = value.fget if isinstance(value, property) else value
    is_data = isinstance(value, property) or (inspect.isclass(value) and name != "RouterClassifier")
    signature = "" if is_data else str(inspect.signature(value))
    # Annotations are strings to Python, and stand in quotes; a function shows where it lies.
    signature = re.sub(r"(: |-> )'([^']*)'", r"\1\2", signature)
    signature = re.sub(r"<function (\w+) at \w+>", r"\1", signature)
    return f"```text\n{name}{signature}\n\n{inspect.getdoc(shown)}\n```\n"


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8").split(START)[0]
    PAGE.write_text(page + reference(), encoding="utf-8")
