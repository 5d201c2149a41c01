"""Thin adapters that let other gateways ask a router."""
