"""matplotlib → SVG that follows the reader's light or dark scheme.

Colours are drawn as marks that a style sheet replaces: the page's for a drawing inside one, the
drawing's own for a file. The same figure gives the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Colour drawn → variable of the style sheet, and what it is where there is no page: light, dark.
_MARKS = {
    "#010101": ("--ink", "#1c1d20", "#ecebe6"),
    "#020202": ("--muted", "#676a73", "#a2a5ad"),
    "#030303": ("--line", "#dcdad3", "#383b42"),
    "#040404": ("--accent", "#b3401d", "#f08a5d"),
    "#050505": ("--second", "#33658a", "#7fb2d6"),
    "#060606": ("--third", "#8a8d3a", "#c3c66f"),
    "#070707": ("--card", "#ffffff", "#1e2024"),
}
INK, MUTED, LINE, ACCENT, SECOND, THIRD, CARD = _MARKS
_RC = {
    "svg.fonttype": "none",
    # The one that matplotlib brings: sizes are measured with it, the same on every machine.
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.parse_math": False,  # a name may hold a dollar sign
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
}


@contextmanager
def drawn(width_in: float, height_in: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one pair of axes in the house's style, to be drawn and written inside."""
    with mpl.rc_context(_RC):
        # Figure itself, not pyplot: pyplot keeps every figure alive and looks for a display.
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        yield figure, figure.add_subplot()


def inline_svg(
    figure: Figure, chart_id: str, title: str, hints: Mapping[str, str] | None = None
) -> str:
    """The drawing as one element of a page.

    Args:
        figure: What was drawn.
        chart_id: Unlike that of any other drawing on the page; its ids begin with it.
        title: What a screen reader says.
        hints: `gid` of a drawn part → what it shows when pointed at.
    """
    return _inline(_parts_named(_svg(figure, chart_id, title), hints or {}), chart_id)


def file_and_inline(figure: Figure, chart_id: str, title: str) -> tuple[str, str]:
    """The drawing as a file and as one element of a page, for the time of one.

    The file is readable wherever it is shown: it has its own colours and ground.

    Args:
        figure: What was drawn.
        chart_id: Unlike that of any other drawing on the page; its ids are made from it.
        title: What a screen reader says.
    """
    text = _svg(figure, chart_id, title)
    return _file(text), _inline(text, chart_id)


def _inline(text: str, chart_id: str) -> str:
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{chart_id}-", text)
    text = re.sub(r'<svg [^>]*viewBox="([^"]+)"[^>]*>', r'<svg role="img" viewBox="\1">', text)
    return _coloured(text)


def _file(text: str) -> str:
    light = "".join(f"{name}:{colour};" for name, colour, _ in _MARKS.values())
    dark = "".join(f"{name}:{colour};" for name, _, colour in _MARKS.values())
    style = (
        f"<style>:root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}</style>\n"
        '<rect width="100%" height="100%" fill="#070707"/>\n'
    )
    text = _coloured(text.replace("</title>", f"</title>\n{style}", 1))
    return text.replace("font: ", "font-family: system-ui, sans-serif; font: ")


def _coloured(text: str) -> str:
    for mark, (variable, _, _) in _MARKS.items():
        text = text.replace(mark, f"var({variable})")
    return text


def _svg(figure: Figure, chart_id: str, title: str) -> str:
    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": chart_id}), warnings.catch_warnings():
        # The reader's font draws a text, not the one that measures it.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    return re.sub(
        r"<metadata>.*?</metadata>", f"<title>{escape(title)}</title>", text, flags=re.DOTALL
    )


def _parts_named(text: str, hints: Mapping[str, str]) -> str:
    for gid, hint in hints.items():
        opening = f'<g id="{gid}">'
        text = text.replace(opening, f"{opening}\n<title>{escape(hint)}</title>", 1)
    return text
