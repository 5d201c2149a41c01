"""Kusto queries checked and run here: by Microsoft's own parser, and on DuckDB."""

import functools
import json
import re
from pathlib import Path

import duckdb
import duckdb_kql
import pyarrow as pa

ROOT = Path(__file__).resolve().parents[3]
# Put there by `make test`, where npm is installed.
PARSER = ROOT / ".venv" / "kusto-language" / "package"
TABLE = "ConversationTurns"
COLUMNS = {
    "conversationId": "string",
    "turnIndex": "int",
    "userMessage": "string",
    "model": "string",
    "timestamp": "datetime",
}
_DUCKDB_TYPES = {
    "string": "VARCHAR", "int": "INTEGER", "long": "BIGINT", "datetime": "TIMESTAMP",
}  # fmt: skip

# What the parser expects of the browser it was made for.
_BROWSER = """
var window = globalThis, self = globalThis, nothing = function () {};
var document = {readyState: 'complete', addEventListener: nothing};
var console = {log: nothing, warn: nothing, error: nothing};
globalThis.addEventListener = nothing;
"""
_CHECK = """
function check(table, columns, query) {
  const K = globalThis.Kusto.Language, S = K.Symbols;
  const tables = new (System.Collections.Generic.List$1(S.Symbol).ctor)();
  tables.add(new S.TableSymbol.$ctor7(table, columns, null));
  const database = new S.DatabaseSymbol.$ctor1('db', tables, false);
  const globals = K.GlobalState.Default.WithDatabase(database);
  const code = K.KustoCode.ParseAndAnalyze(query, globals);
  const found = {problems: [], columns: {}};
  const problems = code.GetDiagnostics();
  for (let i = 0; i < problems.Count; i++) {
    const problem = problems.getItem(i);
    found.problems.push(problem.Code + ' ' + problem.Message);
  }
  for (let i = 0; i < code.ResultType.Columns.Count; i++) {
    const column = code.ResultType.Columns.getItem(i);
    found.columns[column.Name] = column.Type.Name;
  }
  return JSON.stringify(found);
}
"""


class Parser:
    """Microsoft's language service, in an engine of its own."""

    def __init__(self):
        from py_mini_racer import MiniRacer

        self._engine = MiniRacer()
        self._engine.eval(_BROWSER)
        for name in ("bridge.min.js", "Kusto.Language.Bridge.min.js"):
            self._engine.eval((PARSER / name).read_text())
        self._engine.eval(_CHECK)

    def check(self, query, columns=COLUMNS, table=TABLE):
        schema = ", ".join(f"['{name}']:{kind}" for name, kind in columns.items())
        return json.loads(self._engine.call("check", table, f"({schema})", query))


class Database:
    """One table in DuckDB, asked in KQL."""

    def __init__(self, rows: list[dict], kinds=COLUMNS, table=TABLE):
        self._table = table
        self._types = {name: _DUCKDB_TYPES[kind] for name, kind in kinds.items()}
        self._connection = duckdb.connect()
        raw = pa.table({name: [row[name] for row in rows] for name in kinds})
        self._connection.register("raw", raw)
        casts = (f"{name}::{kind} AS {name}" for name, kind in self._types.items())
        selected = ", ".join(casts)
        self._answers: dict[str, pa.Table] = {}
        self._connection.execute(f'CREATE TABLE "{table}" AS SELECT {selected} FROM raw')

    def ask(self, query: str) -> pa.Table:
        """The query's result; a query that was asked before is not run again."""
        if query not in self._answers:
            sql, parameters = _translated(query, self._table, tuple(self._types.items()))
            answered = self._connection.execute(sql, parameters or None)
            self._answers[query] = answered.to_arrow_table()
        return self._answers[query]


def run(query: str, rows: list[dict]) -> list[dict]:
    """Run a query over rows of the default table."""
    return Database(rows).ask(query).to_pylist()


@functools.cache
def _translated(query, table, types):
    """SQL and its parameters; translating takes longer than running, so once a query."""
    columns = dict(types)
    known = _without_what_the_translator_lacks(query, columns)
    translated = duckdb_kql.to_sql(known, schema={table: columns})
    return str(translated), translated.parameters


def _without_what_the_translator_lacks(query, columns):
    """The same query in the part of KQL that the translator knows."""
    size = re.search(r"^let perBucket = (\d+);$", query, re.MULTILINE)
    if size:
        query = query.replace("top perBucket", f"top {size[1]}")
    query = re.sub(
        r'column_ifexists\("(\w+)", ([^()]+(?:\(null\))?|"")\)',
        lambda match: match[1] if match[1] in columns else match[2],
        query,
    )
    return query.replace("estimate_data_size(*)", "strlen(userMessage) + 100")
