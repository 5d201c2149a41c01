"""Data sets for tests, most of them in memory: drawings take most of the time of a small build."""

from tests.tables import write_turns
from turnout.catalog import load_catalog
from turnout.dataset import assembly
from turnout.dataset.assembly import Dataset, dataset_from_turns
from turnout.dataset.outcomes import read_outcomes
from turnout.dataset.selection import DatasetSpec
from turnout.dataset.stage import BuildReport, build_from_turns

CATALOG = load_catalog()


def dataset(
    folder,
    rows,
    *,
    size=100_000,
    ratio=(1, 1),
    shares=(0.8, 0.1, 0.1),
    seed=0,
    **options,
) -> Dataset:
    """The data set of some turns.

    Args:
        folder: Where the turns are written.
        rows: Of the turns table.
        size, ratio, shares, seed: See `DatasetSpec`.
        options: See `dataset_from_turns`.
    """
    turns = write_turns(folder / "turns.parquet", rows)
    spec = DatasetSpec(size, ratio, shares, seed)
    return dataset_from_turns(turns, spec, **{"catalog": CATALOG} | options)


def dataset_from_outcomes(prompts, *, columns=None, **options) -> Dataset:
    """The data set of a file of measured outcomes; see `assembly.dataset_from_outcomes`."""
    return assembly.dataset_from_outcomes(read_outcomes(prompts, columns or {}), **options)


def build_folder(folder, rows, architecture="session", **options) -> BuildReport:
    """The report of a data set written to `data` in a folder; see `build_from_turns`."""
    turns = write_turns(folder / "turns.parquet", rows)
    options = {"architecture": architecture, "catalog": CATALOG} | options
    return build_from_turns(turns, folder / "data", **options)


def splits_of(data: Dataset) -> dict:
    """Split → its rows."""
    return {name: table.to_pylist() for name, table in data.tables.items()}


def rows_of(data: Dataset) -> list:
    """The rows of all splits."""
    return [row for rows in splits_of(data).values() for row in rows]
