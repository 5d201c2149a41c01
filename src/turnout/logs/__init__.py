"""Reads any log into the canonical turns table."""

from __future__ import annotations

from turnout.logs.ingest import IngestReport, ingest

__all__ = ["IngestReport", "ingest"]
