"""One self-contained HTML page, and drawings that follow its colours."""

from __future__ import annotations

from turnout.pages.estimates import estimate
from turnout.pages.layout import render_page

__all__ = ["estimate", "render_page"]
