"""Reads the result of a query on a Kusto database into the turns table, one cell at a time.

The result is counted first, in bins; bins that fit into one reply are a cell. Fetched cells are
kept in a hidden folder beside the output until the table is complete, so that a killed run resumes
where it stopped.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import glob
import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from turnout.errors import RecordError, SettingsError
from turnout.logs.columns import camel_case
from turnout.logs.formats import FORMAT_NAMES, is_log
from turnout.logs.ingest import IngestOptions, IngestReport, ingest_files
from turnout.logs.kusto import kql
from turnout.logs.kusto.cells import BLOCK_TURNS, Bin, Cell, ReplyLimits, cells_of
from turnout.logs.kusto.kql import OWN, Query, QueryParameters
from turnout.logs.kusto.service import Address, Patience, ReplyTooLargeError, Service, SignIn
from turnout.logs.places import files_of
from turnout.logs.pseudonyms import Salt, salt_beside
from turnout.manifest import Input, Manifest
from turnout.progress import OnProgress, silent
from turnout.schema import LATER_TURN_COLUMNS, TURNS
from turnout.stage import StageRun
from turnout.storage import storage_error

# A query's rows say nothing of a router's decisions.
_NOT_READ = ("source", *LATER_TURN_COLUMNS)
_READ = ", ".join(camel_case(name) for name in TURNS.names if name not in _NOT_READ)
_DECLARED = ("startTime", "endTime", "firstPart", "lastPart", "partOf")
_BINNED = (
    f"| project {_READ}\n"
    "| extend idHash = hash_sha256(conversationId)\n"
    f"| extend part = partOf(idHash), block = toint(turnIndex / {BLOCK_TURNS})\n"
    "| summarize rows = count(), bytes = sum(estimate_data_size(*)) by part, block"
)


def ingest_kusto(
    address: str,
    out: Path,
    *,
    query: str,
    parameters: QueryParameters | None = None,
    columns: Mapping[str, str] | None = None,
    salt: Path | None = None,
    skip_unreadable: bool = False,
    redact: bool = False,
    source: str | None = None,
    sign_in: SignIn | None = None,
    limits: ReplyLimits | None = None,
    patience: Patience | None = None,
    on_progress: OnProgress = silent,
) -> IngestReport:
    """Run a query and read its rows into one turns table.

    Args:
        address: `kusto://CLUSTER/DATABASE`; plain HTTP on loopback, HTTPS elsewhere.
        out: The Parquet file to write.
        query: A query of the folder `production`, or the path of an edited copy of one.
        parameters: What it reads. Without `until` it reads whole days, up to last midnight UTC, so
            that a later run on the same day goes on with the same window.
        columns: The query's column → your table's.
        salt: The file of the secret salt; see `ingest`.
        skip_unreadable: Count unreadable rows as dropped rather than stop at the first.
        redact: Replace e-mail and IP addresses, keys, and user names in paths in what was said.
        source: Names the product that the rows are of; see `ingest`.
        sign_in: How to sign in; see `Service`.
        limits: How much one reply may hold.
        patience: How long to keep trying.
        on_progress: Told after every cell.

    Raises:
        SettingsError: If the address, the query or a parameter is wrong.
        RecordError: If the service refuses the query, or nothing is left of the rows.
        UpstreamError: If the service does not answer, or not whole.
        StorageError: If `out` cannot be written.
    """
    database = Address.of(address)
    wanted = parameters or QueryParameters()
    if wanted.until is None:
        today = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        wanted = replace(wanted, until=today)
    text = _text(query, wanted, columns or {})

    def on_wait(reason: str) -> None:
        on_progress(f"waiting ({reason})", 0, None)

    with contextlib.closing(
        Service(database, sign_in=sign_in, patience=patience, on_wait=on_wait)
    ) as service:
        on_progress(f"count {query}", 0, None)
        bins = _counted(service, text({}), database)
        options = IngestOptions({}, Salt(salt or salt_beside(out)), skip_unreadable, redact, source)
        made_from = _made_from(database, bins, {"query": text({}), **options.to_json()})
        run = StageRun(out, made_from)
        earlier = run.earlier(IngestReport)
        if earlier is not None:
            return earlier
        # What was fetched does not depend on what is then done to the rows.
        key = _made_from(database, bins, {"query": text({})}).key
        with _work_folder(out, key) as folder:
            fetching = _Fetching(service, text, folder, str(database), on_progress)
            fetched = fetching.fetched(cells_of(bins, limits or ReplyLimits()))
            files = files_of(fetched, is_log, FORMAT_NAMES)
            return ingest_files(files, run, options, on_progress)


def _text(
    query: str, parameters: QueryParameters, columns: Mapping[str, str]
) -> Callable[[Mapping[str, str]], str]:
    """The query's text, for more settings."""
    chosen = kql.query(query)
    if chosen.folder == OWN:
        _require_cells(chosen, parameters)
    elif chosen.folder != "production":
        turns = [
            name for name, query_file in kql.queries().items() if query_file.folder == "production"
        ]
        raise SettingsError(
            f"--query {query}: its rows are no turns; expected {' or '.join(turns)}. "
            f"Print it with `turnout kql {query}` and run it where your logs are."
        )

    def text(settings: Mapping[str, str]) -> str:
        return kql.filled(
            chosen,
            table=parameters.table,
            columns=columns,
            settings={**parameters.settings(), **settings},
        )

    text({})  # what is wrong with it is said before the service is asked
    return text


def _require_cells(own: Query, parameters: QueryParameters) -> None:
    """Refuse a query that cannot be counted and read cell by cell."""
    if parameters.days is None:
        raise SettingsError(
            f"--query {own.name}: no window; expected --days. The run sets the window, so that "
            "every reply has the same: the file's own may move with the clock."
        )
    missing = [name for name in _DECLARED if f"\nlet {name} = " not in f"\n{own.text}"]
    if missing:
        raise SettingsError(
            f"--query {own.name}: no line `let {missing[0]} = …;` in it; expected those of a "
            "shipped query, by which the result is counted and read a part at a time. Print one "
            "with `turnout kql sft_stratified_by_turn_count` and edit that."
        )


def _counted(service: Service, text: str, address: Address) -> list[Bin]:
    """What the service counts of every bin; together as much as it counts in all."""
    counted = service.rows(f"{text}| count", expected=1)
    in_all = counted.column(0)[0].as_py()
    table = service.rows(
        f"{text}{_BINNED}", expected=in_all, count=lambda bins: pc.sum(bins["rows"]).as_py() or 0
    )
    if in_all == 0:
        raise RecordError(
            f"{address}: the query gives no row; expected at least one turn in the window. Look "
            "further back with --days, or check --table, --map and --until."
        )
    return [
        Bin(row["part"], row["block"], row["rows"], row["bytes"])
        for row in table.sort_by([("part", "ascending"), ("block", "ascending")]).to_pylist()
    ]


def _made_from(address: Address, bins: list[Bin], options: Mapping[str, object]) -> Manifest:
    """A run's manifest; the input's digest is over what was counted of every bin."""
    counted = [(each.part, each.block, each.rows, each.size_bytes) for each in bins]
    digest = hashlib.sha256(json.dumps(counted).encode()).hexdigest()
    return Manifest("ingest", {"log": [Input(str(address), digest)]}, dict(options))


@contextlib.contextmanager
def _work_folder(out: Path, key: str) -> Iterator[Path]:
    """A folder that outlives a failure; only its owner may read it, as its rows are as sent."""
    folder = out.with_name(f".{out.name}.{key[:16]}.kusto")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(out, error) from error
    yield folder
    # Those of earlier windows are of no more use either.
    for done in out.parent.glob(f".{glob.escape(out.name)}.*.kusto"):
        shutil.rmtree(done, ignore_errors=True)


class _Fetching:
    def __init__(
        self,
        service: Service,
        text: Callable[[Mapping[str, str]], str],
        folder: Path,
        source: str,
        on_progress: OnProgress,
    ) -> None:
        self._service = service
        self._text = text
        self._folder = folder
        self._source = source
        self._on_progress = on_progress

    def fetched(self, cells: list[Cell]) -> list[Path]:
        """The files of all cells; those that an earlier run left are taken as they are."""
        rows, rows_in_all = 0, sum(cell.rows for cell in cells)
        files: list[Path] = []
        for cell in cells:
            self._on_progress("fetch from Kusto", rows, rows_in_all)
            files += self._files(cell)
            rows += cell.rows
        self._on_progress("fetch from Kusto", rows, rows_in_all)
        return files

    def _files(self, cell: Cell) -> list[Path]:
        path = self._folder / f"{cell.name}.parquet"
        if path.exists():
            return [path]
        try:
            table = self._service.rows(self._query(cell), cell.rows)
        except ReplyTooLargeError as error:
            smaller = cell.split()
            if smaller == [cell]:
                raise RecordError(
                    f"{self._source}: {cell.rows} turns of {cell.name} do not fit into one reply "
                    f"({error}); expected at most 64 MB. Leave that conversation out of the table."
                ) from error
            return [file for part in smaller for file in self._files(part)]
        self._write(table, path)
        return [path]

    def _query(self, cell: Cell) -> str:
        (first, last), (least, greatest) = cell.parts, cell.turn_indices
        text = self._text({"firstPart": str(first), "lastPart": str(last)})
        return f"{text}| where turnIndex between ({least} .. {greatest})\n| project {_READ}"

    def _write(self, table: pa.Table, path: Path) -> None:
        source = pa.array([self._source] * table.num_rows, pa.string())
        partial = path.with_name(f"{uuid.uuid4().hex[:8]}.partial")
        try:
            pq.write_table(table.append_column("source", source), partial)
            partial.rename(path)
        except OSError as error:
            raise storage_error(path, error) from error
