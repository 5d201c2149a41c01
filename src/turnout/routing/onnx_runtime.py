"""Imports ONNX Runtime when it is needed, with its telemetry off."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from types import ModuleType

_NAME = "onnxruntime"
# Read once, when ONNX Runtime is imported; its function `disable_telemetry_events` has no effect.
_SWITCH = "ORT_DISABLE_TELEMETRY"


def onnx_runtime(submodule: str | None = None) -> ModuleType:
    """Import `onnxruntime`, or a submodule of it.

    Warns if the program imported it before with its telemetry on, which cannot be stopped later.
    """
    if _NAME in sys.modules and os.environ.get(_SWITCH) != "1":
        warnings.warn(
            "onnxruntime was imported before turnout loaded it and may report to its makers; "
            f"expected {_SWITCH}=1 in the environment. Set it, or open the router first.",
            stacklevel=2,
        )
    os.environ[_SWITCH] = "1"
    return importlib.import_module(f"{_NAME}.{submodule}" if submodule else _NAME)
