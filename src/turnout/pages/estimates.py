"""A stored estimate as a page shows it: the number, its interval small below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup


def estimate(
    stored: Mapping[str, Any] | None, form: str = ".3f", scale: float = 1.0, unit: str = ""
) -> Markup:
    """A number with its interval small below it; a dash where nothing could be measured.

    Args:
        stored: `value`, `low` and `high`, as a report holds them; None where nothing was measured.
        form: Format of each number.
        scale: What each number is multiplied by.
        unit: What stands behind the value.
    """
    if stored is None or stored["value"] is None:
        return Markup("–")
    value = Markup("{}{}").format(f"{stored['value'] * scale:{form}}", unit)
    if stored["low"] is None or stored["high"] is None:
        return value
    interval = f"{stored['low'] * scale:{form}} … {stored['high'] * scale:{form}}"
    return value + Markup("<small>{}</small>").format(interval)
