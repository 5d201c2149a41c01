"""Model names as logs write them → provider, family, class and list price."""

from __future__ import annotations

from turnout.catalog.catalog import Catalog, CatalogModel, Price, load_catalog, normalised

__all__ = ["Catalog", "CatalogModel", "Price", "load_catalog", "normalised"]
