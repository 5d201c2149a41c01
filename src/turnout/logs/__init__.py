"""Any log → the canonical turns table."""

from __future__ import annotations

from turnout.logs.ingest import IngestReport, ingest

__all__ = ["IngestReport", "ingest"]
