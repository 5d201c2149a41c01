"""The settings of turnout.toml."""

from __future__ import annotations

from turnout.settings.file import Flags, SettingValue, catalog_of, load_settings, setting_values
from turnout.settings.tables import Settings, unpriced

__all__ = [
    "Flags",
    "SettingValue",
    "Settings",
    "catalog_of",
    "load_settings",
    "setting_values",
    "unpriced",
]
