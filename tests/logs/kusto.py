"""Kusto queries checked and run here: by Microsoft's own parser, and on DuckDB."""

import json
import re
from pathlib import Path

import duckdb
import duckdb_kql
import pyarrow as pa

ROOT = Path(__file__).resolve().parents[2]
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
_DUCKDB_TYPES = {"string": "VARCHAR", "int": "INTEGER", "datetime": "TIMESTAMP"}

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


def run(query: str, rows: list[dict]) -> list[dict]:
    """Run a query over rows of the default table."""
    connection = duckdb.connect()
    table = pa.table({name: [row[name] for row in rows] for name in COLUMNS})
    types = {name: _DUCKDB_TYPES[kind] for name, kind in COLUMNS.items()}
    selected = ", ".join(f"{name}::{kind} AS {name}" for name, kind in types.items())
    connection.register("raw", table)
    connection.execute(f"CREATE TABLE {TABLE} AS SELECT {selected} FROM raw")
    # The translator takes no name here, where Kusto does.
    size = re.search(r"^let perBucket = (\d+);$", query, re.MULTILINE)
    literal = query.replace("top perBucket", f"top {size[1]}") if size else query
    translated = duckdb_kql.to_sql(literal, schema={TABLE: types})
    result = connection.execute(str(translated), translated.parameters or None)
    return result.to_arrow_table().to_pylist()
