"""A stage's template + values → one HTML page that needs no network and no other file.

The page's own policy forbids scripts and everything from outside, whatever a log holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

import jinja2

_SHARED = ("layout.html", "style.css")


def render_page(
    package: str,
    template: str,
    values: Mapping[str, Any],
    filters: Mapping[str, Callable[..., Any]],
) -> str:
    """The page as HTML.

    Args:
        package: Whose template it is.
        template: Its file name; it extends `layout.html` with a title, a body and a footer.
        values: What the template shows; text is escaped.
        filters: How it writes numbers.
    """
    sources = {name: _source("turnout.pages", name) for name in _SHARED}
    environment = jinja2.Environment(
        loader=jinja2.DictLoader({**sources, template: _source(package, template)}),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= dict(filters)
    return environment.get_template(template).render(values)


def _source(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
