"""Logs in a Kusto database: the shipped queries, and how their rows are fetched."""
