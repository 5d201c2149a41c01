"""Any log → the canonical turns table; the simulator. Knows no label and no router."""

from __future__ import annotations

from turnout.logs.ingest import IngestReport, ingest
from turnout.logs.simulate import SimulateReport, simulate

__all__ = ["IngestReport", "SimulateReport", "ingest", "simulate"]
