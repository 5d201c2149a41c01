"""Logs in a Kusto database: the shipped queries, and how their rows are fetched."""

from __future__ import annotations

from turnout.logs.kusto.ingest import ingest_kusto

__all__ = ["ingest_kusto"]
